"""RoI samplers; importing the package registers them."""
