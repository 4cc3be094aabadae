"""One script for each figure that the README quotes."""
