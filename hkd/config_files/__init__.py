"""Reading, checking and writing configurations: overrides, strict parsing, YAML, error messages."""
