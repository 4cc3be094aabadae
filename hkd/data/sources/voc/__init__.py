"""PASCAL VOC's XML files, as the benchmark and labelling tools write them, filtered to people."""
