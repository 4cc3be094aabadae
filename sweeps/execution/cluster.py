"""The Ray cluster that a study runs on: the one that is there, or one of this machine alone."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeps.folder import StudyError
from sweeps.settings.resources import Cluster, ResourcesConfig, TrialResources

CONNECT_SECONDS = 5.0
OBJECT_STORE_BYTES = 256 * 2**20
"""Of a local cluster: nothing large goes through it, and Ray would take a third of the memory."""

LOCAL_ATTEMPTS = 4
_ADDRESS_FILE = Path("ray") / "ray_current_cluster"


def find_address() -> str | None:
    """Address of a running cluster: RAY_ADDRESS, or the one that ``ray start`` began on this machine; else None.

    Not ``address="auto"``: that joins any Ray process on the machine, even the private cluster of another study.

    Raises:
        StudyError: the cluster cannot be reached.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address == "local":
        return None
    if "://" in address:
        raise StudyError(
            f"RAY_ADDRESS is {address}: Ray Client cannot run a study, whose driver keeps files and MLflow; "
            "run this command on the cluster's head node (ray attach, ray exec or ray job submit)"
        )
    if address and address != "auto":
        if not _answers(address):
            raise StudyError(
                f"RAY_ADDRESS is {address}, and no Ray cluster answers there; start it (ray start --head), or unset "
                "RAY_ADDRESS to use this machine alone"
            )
        return address
    # Left behind by a cluster that crashed, the file names an address that no one answers.
    file = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / _ADDRESS_FILE  # noqa: S108 (Ray's own place)
    found = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    if found and _answers(found):
        return found
    if address == "auto":
        raise StudyError("RAY_ADDRESS is auto, but no Ray cluster runs on this machine; start it (ray start --head)")
    return None


@contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """Be connected to a cluster; a local one is started and ended.

    Raises:
        StudyError: the cluster cannot be joined.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        # Ray's switch for machines that are no part of a cluster: everything listens on the loopback interface only.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray  # reads the above while it is imported
    from ray._private import ray_constants

    if address is None:
        ray_constants.ENABLE_RAY_CLUSTER = False  # where ray was imported before
        _start_local()
    else:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError) as error:
            raise StudyError(
                f"the Ray cluster at {address} cannot be joined: {str(error).strip().splitlines()[0]}. Its nodes must "
                "run the same versions of Python and Ray as this command"
            ) from error
    try:
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        yield Cluster(address, num_cpus=resources.get("CPU", 0.0), num_gpus=resources.get("GPU", 0.0))
    finally:
        ray.shutdown()


def _start_local() -> None:
    """Start a cluster of this machine alone, with patience: Ray itself waits half a minute and gives up."""
    import ray

    for attempt in range(1, LOCAL_ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:
            # Ray raises a bare Exception here, so that no narrower kind can be caught.
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if attempt == LOCAL_ATTEMPTS:
                raise StudyError(
                    f"Ray did not start on this machine in {LOCAL_ATTEMPTS} attempts of half a minute; is it very "
                    "busy, or short of memory? Try again when it is not"
                ) from error
        else:
            return


def trial_resources(
    config: ResourcesConfig, cluster: Cluster, *, measured_gpu_share: float | None = None
) -> TrialResources:
    """Resolve what a study leaves open.

    Args:
        measured_gpu_share: What ``gpus_per_trial: auto`` stands for; until it is known, a whole GPU.

    Raises:
        StudyError: a trial asks for more than this machine has, and would wait for ever.
    """
    num_gpus = config.gpus_per_trial
    if num_gpus is None or num_gpus == "auto":
        whole_or_share = 1.0 if num_gpus is None or measured_gpu_share is None else measured_gpu_share
        num_gpus = whole_or_share if cluster.num_gpus else 0.0
    max_concurrent = config.max_concurrent_trials
    if cluster.address is None:
        wanted = {
            "cpus_per_trial": (config.cpus_per_trial, cluster.num_cpus),
            "gpus_per_trial": (num_gpus, cluster.num_gpus),
        }
        for name, (asked, there) in wanted.items():
            if asked > there:
                raise StudyError(f"resources.{name} is {asked:g}, but this machine has {there:g}; ask for less")
        room = min(there / asked for asked, there in wanted.values() if asked)
        max_concurrent = min(max_concurrent or int(room), int(room))
    return TrialResources(
        num_cpus=config.cpus_per_trial,
        num_gpus=num_gpus,
        num_threads=config.threads_per_trial or max(1, int(config.cpus_per_trial)),
        max_concurrent=max_concurrent,
    )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
