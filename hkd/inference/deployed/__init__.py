"""Exported detectors (ONNX files): reading, and running by ONNX Runtime or OpenVINO."""
