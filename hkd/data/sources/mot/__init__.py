"""MOT Challenge, and exports in its format."""
