"""The address of the Ray cluster that a study joins."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

from hkd.own_folders import ForeignFileError, read_own_file
from sweeps.execution.cluster.private_ray import ray_parent_folder
from sweeps.folder import StudyError

CONNECT_SECONDS = 5.0
FIND_CLUSTER = ("", "auto")
"""Values of RAY_ADDRESS for which the cluster is found on this machine."""

_ADDRESS_FILE = Path("ray") / "ray_current_cluster"
_MAX_ADDRESS_BYTES = 300
_SOCKET_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""Of Linux; proc_pid_net(5)."""
_LISTENING = "0A"


def find_address() -> str | None:
    """Address of a running cluster: RAY_ADDRESS, or the one that ``ray start`` started on this machine; else None.

    Ray's ``address="auto"`` would join any cluster on the machine, even that of another user. Whoever operates a
    cluster can run code in a study that joins it: without RAY_ADDRESS, only one of this user or of root is joined.

    Raises:
        StudyError: the cluster cannot be reached.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address == "local":
        return None
    if "://" in address:
        raise StudyError(
            f"RAY_ADDRESS is {address}: Ray Client cannot run a study, whose driver writes local files; "
            "run this command on the cluster's head node (ray attach, ray exec or ray job submit)"
        )
    if address not in FIND_CLUSTER:
        if not answers(address):
            raise StudyError(
                f"RAY_ADDRESS is {address}, and no Ray cluster answers there; start it (ray start --head), or unset "
                "RAY_ADDRESS to use this machine alone"
            )
        return address
    # The file of a crashed cluster remains: nothing answers at its address.
    found = _started_address(ray_parent_folder() / _ADDRESS_FILE)
    if found and answers(found):
        return found
    if address == "auto":
        raise StudyError("RAY_ADDRESS is auto, but no Ray cluster runs on this machine; start it (ray start --head)")
    return None


def is_of_this_machine(address: str) -> bool:
    """Whether an address is one of this machine's, to which its user's token may be sent."""
    host = address.rpartition(":")[0].strip("[]")
    if not host:  # of all addresses
        return False
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, 0), family=family).close()
    except OSError:
        return False
    return True


def _started_address(file: Path) -> str:
    """The address in the file of ``ray start``; empty without one, or if another user may operate the cluster."""
    try:
        content = read_own_file(file, _MAX_ADDRESS_BYTES, refuse_writable=True)
    except ForeignFileError:
        _warn_of_foreign(f"{file}: perhaps another user of this machine wrote this file; the cluster it names")
        return ""
    except OSError:
        return ""
    address = content.decode("ascii", errors="replace").strip()
    # Another user can listen at the port of a crashed cluster, whose file remains.
    if any(user not in (os.geteuid(), 0) for user in _listening_users(address.rpartition(":")[2])):
        _warn_of_foreign(f"{address}: another user of this machine listens at this address, which {file} names; it")
        return ""
    return address


def _warn_of_foreign(subject: str) -> None:
    warnings.warn(f"{subject} is not joined. To join it, set RAY_ADDRESS to its address", stacklevel=3)


def _listening_users(port: str) -> Iterator[int]:
    """Ids of the users that listen at a TCP port of this machine, as far as the system shows them."""
    for table in _SOCKET_TABLES:
        try:
            rows = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            _, local_address, _, state, _, _, _, user, *_ = row.split()
            if state == _LISTENING and str(int(local_address.rpartition(":")[2], 16)) == port:
                yield int(user)


def answers(address: str) -> bool:
    """Whether something accepts connections at ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
