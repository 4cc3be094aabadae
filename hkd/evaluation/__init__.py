"""Evaluation of detections: log-average miss rate by a pedestrian protocol, COCO average precision."""
