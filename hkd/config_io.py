"""Reading configurations: YAML, dotted overrides, and all mistakes at once."""
