"""Faults of a study on three hosts in network namespaces: what each costs, as a table. It takes 20 minutes.

    python -m benchmarks.cluster_faults [FAULT ...]

Needs root, and what the tests of clusters need (CONTRIBUTING.md). docs/faults.md quotes the table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster.on_hosts.faults import FAULTS
from tests.cluster.on_hosts.hosts import PREPARE_GPU, REPOSITORY, prepare

SHARED_BYTES = 256 * 2**20
"""Of the shared folder, which one of the faults fills."""
# Trials reserve a GPU: none runs on the head.
PREPARE_GPUS = f'if [[ "$(hostname)" != host1 ]]; then {PREPARE_GPU.strip()}; fi'.replace('"GPU\\": 1', '"GPU\\": 2')


def main() -> int:
    """Start the hosts and run the faults beside them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"default: all of {', '.join(FAULTS)}")
    chosen = parser.parse_args().faults
    if unknown := set(chosen) - FAULTS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; allowed: {', '.join(FAULTS)}")
    with tempfile.TemporaryDirectory(prefix="hkd-faults-") as folder:
        command = [sys.executable, "-m", "tests.cluster.on_hosts", "faults", folder]
        variables = {
            "PREPARE": f"{prepare()}\n{PREPARE_GPUS}",
            "PYTHONPATH": str(REPOSITORY),
            "SHARED_BYTES": str(SHARED_BYTES),
            "FAULTS": ",".join(chosen),
        }
        hosts = Path(REPOSITORY) / "tests" / "cluster" / "hosts.sh"
        done = subprocess.run(
            ["setpriv", "--pdeathsig", "KILL", hosts, "3", folder, *command],
            cwd=REPOSITORY, env={**os.environ, **variables}, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
