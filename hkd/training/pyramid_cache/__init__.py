"""The teacher's feature pyramids, cached on disk for all trials of a node."""
