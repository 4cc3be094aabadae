"""Data sets in buckets: what a configuration names is listed, and copied to this machine once."""
