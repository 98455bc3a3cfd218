"""The mathematics of the package: torch and numpy only, no host."""
