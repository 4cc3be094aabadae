"""Text that is shown or written: control characters are escaped, credentials removed."""
