"""The INRIA Person data set (Dalal and Triggs, CVPR 2005)."""
