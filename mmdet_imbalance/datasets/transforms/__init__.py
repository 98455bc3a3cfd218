"""Transforms; importing the package registers them."""
