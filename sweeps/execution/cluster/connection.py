"""The Ray cluster of a study: a running one, or a local one that ends with the study."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sweeps.execution.cluster.address import CONNECT_SECONDS, FIND_CLUSTER, is_of_this_machine
from sweeps.execution.cluster.private_ray import private_ray_folder, users_token
from sweeps.folder import StudyError
from sweeps.settings.resources import Cluster, ResourcesConfig, TrialResources

OBJECT_STORE_BYTES = 256 * 2**20
"""Of a local cluster. Trials pass no large objects, and Ray's default is a third of the memory."""

LOCAL_ATTEMPTS = 4
_NO_CLUSTER = "1" * 56
_WRONG_TOKEN = "InvalidAuthToken"  # noqa: S105 (in the message of Ray 2.60)


@contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """Connect to a cluster; for None, start a local one and stop it at the end.

    Raises:
        StudyError: the cluster cannot be joined.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        # Without multi-node clusters, Ray's processes listen on the loopback interface only.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    else:
        # Of this process: its C++ part would print twenty lines for one refused connection.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray  # reads these variables on import
    from ray._private import ray_constants
    from ray._private import worker as ray_worker

    # Stack dumps of Ray's processes, which are in its log too. A lost worker is reported with its trial.
    ray_worker.print_to_stdstream = _print_nothing

    with ExitStack() as stack:
        if address is None:
            ray_constants.ENABLE_RAY_CLUSTER = False  # if ray was imported before
            _start_local(stack.enter_context(private_ray_folder()))
        else:
            if os.environ.get("RAY_ADDRESS", "") in FIND_CLUSTER or is_of_this_machine(address):
                stack.enter_context(users_token())
            _join(address)
        stack.callback(ray.shutdown)
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        yield Cluster(address, num_cpus=resources.get("CPU", 0.0), num_gpus=resources.get("GPU", 0.0))


def head_address() -> str:
    """``host:port`` of the global control service of the cluster that this process has joined."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def _print_nothing(*_: object, **__: object) -> None:
    pass


def _join(address: str) -> None:
    """Connect to a running cluster, with the token that the user configured for it, if any."""
    import ray

    try:
        _check_token(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ray.exceptions.AuthenticationError as error:
        raise StudyError(
            f"the Ray cluster at {address} refused this command's authentication: it has another token than the "
            "cluster, or none. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a copy of the cluster's token "
            "(~/.ray/auth_token on its head node, which local use of Ray leaves there and `ray start` then requires)"
        ) from error
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        raise StudyError(
            f"the Ray cluster at {address} cannot be joined: {str(error).strip().splitlines()[0]}. Its nodes must run "
            "the same versions of Python and Ray as this command, and need the same token (RAY_AUTH_MODE, "
            "RAY_AUTH_TOKEN_PATH) if they require one"
        ) from error


def _check_token(address: str) -> None:
    """Ask for the state of the cluster once.

    ``ray.init`` asks with a wrong token every second for 20 s, with a line of C++ each time, and then reports that the
    cluster cannot be reached.

    Raises:
        AuthenticationError: of Ray; the cluster requires another token.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError, RayError

    try:
        # With the id of no cluster: Ray would ask for the cluster's id first, as above. It checks the token before.
        GcsClient(address=address, cluster_id=_NO_CLUSTER).check_alive([], timeout=CONNECT_SECONDS)
    except AuthenticationError as error:
        if _WRONG_TOKEN in str(error):
            raise
    except RayError:
        pass  # ray.init finds out


def _start_local(temp_folder: Path) -> None:
    """Start a local cluster, in several attempts: a busy machine may exceed Ray's start-up timeout of half a minute.

    Args:
        temp_folder: Ray's folder for sockets, logs and errors; created by Ray.
    """
    import ray

    for attempt in range(1, LOCAL_ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(temp_folder),
            )
        except Exception as error:
            # Ray raises a bare Exception here.
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if attempt == LOCAL_ATTEMPTS:
                raise StudyError(
                    f"Ray did not start on this machine in {LOCAL_ATTEMPTS} attempts of half a minute; try again when "
                    "fewer processes use its CPUs and memory"
                ) from error
        else:
            return


def trial_resources(
    config: ResourcesConfig, cluster: Cluster, *, measured_gpu_share: float | None = None
) -> TrialResources:
    """The resources of a trial on this cluster.

    Args:
        measured_gpu_share: Replaces ``gpus_per_trial: auto``; None stands for a whole GPU.

    Raises:
        StudyError: a trial needs more than this machine has, and would never start.
    """
    num_gpus = config.gpus_per_trial
    if num_gpus is None or num_gpus == "auto":
        whole_or_share = 1.0 if num_gpus is None or measured_gpu_share is None else measured_gpu_share
        num_gpus = whole_or_share if cluster.num_gpus else 0.0
    max_concurrent = config.max_concurrent_trials
    if cluster.address is None:
        requests = {
            "cpus_per_trial": (config.cpus_per_trial, cluster.num_cpus),
            "gpus_per_trial": (num_gpus, cluster.num_gpus),
        }
        for name, (requested, available) in requests.items():
            if requested > available:
                raise StudyError(
                    f"resources.{name} is {requested:g}, but this machine has {available:g}; set it to that or less"
                )
        fitting = int(min(available / requested for requested, available in requests.values() if requested))
        max_concurrent = min(max_concurrent or fitting, fitting)
    return TrialResources(
        num_cpus=config.cpus_per_trial,
        num_gpus=num_gpus,
        num_threads=config.threads_per_trial or max(1, int(config.cpus_per_trial)),
        max_concurrent=max_concurrent,
    )
