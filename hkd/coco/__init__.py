"""The annotation format of hkd, COCO-style JSON with pedestrian fields: read, checked and written in one place."""
