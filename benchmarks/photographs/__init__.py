"""What distillation gains on a data set's photographs: see ``python -m benchmarks.photographs --help``."""
