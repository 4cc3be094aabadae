"""Latency of a study's students: measured of some shapes, predicted for the others."""
