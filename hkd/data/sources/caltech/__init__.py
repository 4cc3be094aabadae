"""Caltech Pedestrian: annotations (.vbb, text), videos (.seq) and their conversion."""
