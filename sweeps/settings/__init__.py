"""The configuration of a study: its YAML, overrides, search space and resources."""
