"""Data samplers; importing the package registers them."""
