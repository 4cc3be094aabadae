"""The speed of a distillation step, beside torchvision's own loop: ``python -m benchmarks.step``."""
