"""A miniature benchmark whose teacher is trained."""

from __future__ import annotations

import pytest

from benchmarks.distillation_gain.jobs import Jobs
from benchmarks.distillation_gain.trainings import run
from tests.benchmarks.distillation_gain.miniature import miniature_benchmark, miniature_jobs


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    folder = tmp_path_factory.mktemp("distillation_gain")
    jobs = miniature_jobs(miniature_benchmark(folder), folder / "out", pyramid_bytes=10**8)
    assert run(jobs.teacher_training("strong")) == "finished"
    return jobs
