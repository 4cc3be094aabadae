"""The teacher of a training, and its labels of unlabelled images: prepared once, then cached."""
