"""How good detections are: log-average miss rate by a pedestrian protocol, COCO average precision."""
