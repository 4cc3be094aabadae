"""Hierarchical knowledge distillation of two-stage pedestrian detectors.

Reference: Chen, Ai, Shang, Chen, Zhuang, "Learning lightweight pedestrian detector with hierarchical
knowledge distillation", ICIP 2019, arXiv 1909.09325.

Importing this package imports nothing else: ``hkd.metric_names`` and ``hkd.config`` are for readers
without torch as well.
"""

__version__ = "0.1.0"
