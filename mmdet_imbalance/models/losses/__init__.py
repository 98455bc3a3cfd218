"""Loss modules; importing the package registers them."""
