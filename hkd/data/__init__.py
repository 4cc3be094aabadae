"""Images and boxes: one annotation format inside, converted to once by each source."""
