"""Where images come from: each source writes the annotation format of hkd.coco."""
