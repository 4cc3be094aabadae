"""Detectors as ONNX files: the graph, its metadata, INT8 and latency."""
