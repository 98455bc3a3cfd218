"""Backbones; importing the package registers them."""
