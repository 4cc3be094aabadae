"""Speed and memory of distillation compared to a torchvision training loop: ``python -m benchmarks.step``."""
