"""Data sets: one converter each, and the generated scenes; all write the annotation format of hkd.coco."""
