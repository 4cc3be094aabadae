"""Distillation losses of each stage, adapters and the objective; arguments are always in the order student, teacher."""
