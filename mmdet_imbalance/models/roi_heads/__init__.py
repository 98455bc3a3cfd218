"""RoI heads; importing the package registers them."""
