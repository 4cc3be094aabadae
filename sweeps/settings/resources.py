"""What trials compute with: the cluster, and each trial's part of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import model_validator

from hkd.config import NonNegativeFloat, PositiveFloat, PositiveInt, Section


class ResourcesConfig(Section):
    """What one trial is given. May differ when a study is resumed."""

    cpus_per_trial: PositiveFloat = 1.0
    gpus_per_trial: NonNegativeFloat | Literal["auto"] | None = None
    """A fraction lets trials share a GPU. null: 1 where the cluster has GPUs when the study starts, else 0. auto: the
    fraction that the memory of the largest student with its teacher asks for, which is measured on one of the GPUs
    before the first trial; 0 where the cluster has none."""
    max_concurrent_trials: PositiveInt | None = None
    """null: as many as the cluster has room for."""
    threads_per_trial: PositiveInt | None = None
    """Threads of torch in one trial; null: as many as its CPUs."""
    teacher_cache_gigabytes: NonNegativeFloat | None = None
    """Disk of each node for the teacher's pyramids, which trials on the same batches share: each is computed once.
    0: none. null: 10 where trials run on CPUs, 0 where they run on GPUs."""

    @model_validator(mode="after")
    def _whole_gpus_above_one(self) -> Self:
        gpus = self.gpus_per_trial
        if isinstance(gpus, float) and gpus > 1 and gpus % 1:
            raise ValueError(f"gpus_per_trial above 1 must be a whole number; found {gpus:g}")
        return self


@dataclass(frozen=True)
class Cluster:
    """What trials find to run on."""

    address: str | None
    """None: a cluster of this machine alone, which ends with the study."""
    num_cpus: float
    num_gpus: float


@dataclass(frozen=True)
class TrialResources:
    """What is given to one trial."""

    num_cpus: float
    num_gpus: float
    num_threads: int
    max_concurrent: int | None
    """None: as many as the cluster has room for."""
