"""Weights in the forms that people have, brought to the names and class order of our detectors."""
