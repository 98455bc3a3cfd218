"""Metrics; importing the package registers them."""
