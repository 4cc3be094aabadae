"""Runs the scenario that the command line names."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from tests.cluster.on_hosts.hosts import show

SCENARIOS = ("aws", "documented", "faults")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    scenario = importlib.import_module(f"tests.cluster.on_hosts.{options.scenario}")
    getattr(scenario, options.scenario)(options.folder)
    show("all passed")


if __name__ == "__main__":
    main()
