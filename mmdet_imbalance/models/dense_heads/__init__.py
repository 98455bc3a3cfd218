"""Dense heads; importing the package registers them."""
