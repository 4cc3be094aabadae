"""A folder in the layout of YOLO (Ultralytics, darknet, and exports of labelling tools), filtered to people."""
