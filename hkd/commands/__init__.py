"""Commands of ``hkd``, one module each: arguments, help text and the call."""
