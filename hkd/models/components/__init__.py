"""Parts of the detector: backbone, anchors, heads, proposals, regions, losses."""
