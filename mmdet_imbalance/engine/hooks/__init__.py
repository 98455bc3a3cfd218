"""Hooks; importing the package registers them."""
