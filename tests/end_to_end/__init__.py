"""The real commands, as a user runs them."""
