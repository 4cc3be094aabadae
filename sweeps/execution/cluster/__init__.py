"""The Ray cluster on which a study runs: its address, its nodes, and a private one of this machine."""
