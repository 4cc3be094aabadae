"""The real commands, as a user drives them."""
