"""One training step: its batch, its loss, the update of the weights, and the record of its numbers."""
