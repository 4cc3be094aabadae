"""The commands of ``hkd``: a module each, with its arguments and what they set going."""
