"""Files and JSON read defensively: bounded reading, checks of values and of columns of records, errors."""
