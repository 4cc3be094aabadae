"""The measurement for ``gpus_per_trial: auto`` as a task on a real Ray cluster that declares a GPU."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from hkd.config import TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.models.weight_formats.errors import CheckpointError
from hkd.runtime.memory import machine_bytes
from sweeps.execution.gpu_share import measure_on_cluster
from sweeps.trials.worker import WorkerSettings
from tests.sweeps.tiny import tiny_trial


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with warnings.catch_warnings():
        # Ray's own resource and deprecation warnings.
        warnings.simplefilter("ignore")
        ray.init(
            address="local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False,
            logging_level=logging.ERROR, object_store_memory=100 * 2**20,
        )  # fmt: skip
        yield
        ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_worker_measures_memory_and_raises_user_errors(tmp_path: Path) -> None:
    config = parse_config(TrialConfig, tiny_trial(tmp_path / "cache"), source="tiny")
    alone = config.model_copy(update={"teacher": None})
    worker = WorkerSettings(1, has_gpu=True, working_directory=tmp_path)
    need = measure_on_cluster(alone, None, worker, num_cpus=1)
    # torch finds no GPU and computes on the CPU.
    assert (need.device_type, need.device_bytes) == ("cpu", machine_bytes())
    assert 0 < need.peak_bytes < need.device_bytes
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors: no such file"):
        measure_on_cluster(config, tmp_path / "nowhere.safetensors", worker, num_cpus=1)
