"""A folder in COCO's layout, or an export of a labelling tool in COCO's format, filtered to people."""
