"""Visualisers; importing the package registers them."""
