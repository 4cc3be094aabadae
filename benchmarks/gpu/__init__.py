"""All GPU figures in one command: ``python -m benchmarks.gpu``."""
