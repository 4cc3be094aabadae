"""KAIST Multispectral Pedestrian: annotations (text, XML) of frames in two modalities, and their conversion."""
