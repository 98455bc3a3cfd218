"""Contract checks and demo inputs for authors of a method."""
