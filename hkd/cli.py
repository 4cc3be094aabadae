"""The ``hkd`` command."""

from __future__ import annotations

import argparse


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    argparse.ArgumentParser(prog="hkd").parse_args(arguments)
    return 0
