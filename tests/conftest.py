"""Fixtures of all tests: the folder of real data, and an environment without displays, telemetry and extra threads."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).parents[1]
END_TO_END = Path(__file__).parent / "end_to_end"
TEST_THREADS = 1
"""Networks in tests are tiny: more threads only wait for each other, and times stay comparable on big machines."""

# The same examples in every run: results of two revisions are comparable.
settings.register_profile("hkd", derandomize=True, deadline=None)
settings.load_profile("hkd")

# Before any test module imports the libraries that read these.
os.environ["MPLBACKEND"] = "Agg"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# The default of studies and reports.
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real data sets: HKD_SHARED_DATA, by default ../shared/data beside the checkout."""
    folder = Path(os.environ.get("HKD_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set HKD_SHARED_DATA to the folder that holds it")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests in end_to_end/."""
    for item in items:
        if END_TO_END in item.path.parents:
            item.add_marker(pytest.mark.end_to_end)


def pytest_collection_finish() -> None:
    """Limit torch's threads, if the collected tests imported it at all."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(min(TEST_THREADS, os.cpu_count() or 1))
