"""Sample detections for a report: the validation images on which a student differs most from its teacher."""
