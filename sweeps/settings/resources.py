"""Resources: of the cluster, of a trial as configured, and of a trial as resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hkd.config import Section


class ResourcesConfig(Section):
    """Resources of one trial. They may change when a study is resumed."""

    cpus_per_trial: Annotated[float, Field(gt=0.0, le=4096.0)] = 1.0
    gpus_per_trial: Annotated[float, Field(ge=0.0, le=1024.0)] | Literal["auto"] | None = None
    """A fraction lets trials share a GPU. null: 1 if the cluster has GPUs when the study starts, else 0. auto: the
    fraction for the memory of the largest student with its teacher, in the fit of first weights too, measured on one
    GPU before the first trial; 0 if the cluster has none."""
    max_concurrent_trials: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """null: as many as fit the cluster."""
    threads_per_trial: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Threads of torch in one trial. null: as many as its CPUs."""
    teacher_cache_gigabytes: Annotated[float, Field(ge=0.0, le=1e6)] | None = None
    """Capacity of each node's disk cache of the teacher's pyramids, which trials on the same batches share.
    0: no cache. null: 10 where trials run on CPUs, 0 where they run on GPUs."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        gpus = self.gpus_per_trial
        if isinstance(gpus, float) and gpus > 1 and gpus % 1:
            raise ValueError(f"gpus_per_trial above 1 must be a whole number; found {gpus:g}")
        return self


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster of a study."""

    address: str | None
    """None: a local cluster, which ends with the study."""
    num_cpus: float
    num_gpus: float


@dataclass(frozen=True)
class TrialResources:
    """Resources of one trial."""

    num_cpus: float
    num_gpus: float
    num_threads: int
    max_concurrent: int | None
    """None: as many as fit the cluster."""
