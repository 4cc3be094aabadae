"""The error of a file of weights."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A file of weights or a training state is unreadable, or does not match the configuration."""
