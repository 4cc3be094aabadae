"""Files that an evaluation reads: detections and protocols."""
