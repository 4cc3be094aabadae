"""Tests mirror the tree of the packages; slow ones that drive the real commands are in end_to_end."""
