"""Private files of a local Ray cluster: its temporary folder and the token that its clients need.

Ray's own folder, /tmp/ray, is shared by all users of the machine, and Ray makes every folder below writable by all of
them. It holds the sockets of the cluster, and errors that Ray Tune pickles and unpickles. Its servers listen on ports
of the loopback interface, which other users of the machine reach: without a token they could run code as the owner of
the study.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR

from filelock import FileLock, Timeout

from hkd.own_folders import others_can_replace
from sweeps.folder import StudyError

PREFIX = "hkd-ray-"
"""Of the private folders, in the system's folder for temporary files."""

_TOKEN = "auth_token"  # noqa: S105 (a file's name)
_LOCK = "lock"
_KEPT_SECONDS = 7 * 86_400.0
"""Age from which the folder of an ended study, with Ray's logs, is removed."""
_DEFAULT_PARENT = Path("/tmp")  # noqa: S108 (Ray's default; the folder below is private)
# A Unix socket's path has at most 107 bytes on Linux, 103 on macOS. Ray adds at most 66 to its folder, as in
# /session_2026-11-28_13-54-53_478189_4194304/sockets/plasma_store.1, and ours is /hkd-ray-12345678/ray.
_MAX_PARENT_BYTES = (103 if sys.platform == "darwin" else 107) - 66 - len(f"/{PREFIX}12345678/ray")


def ray_parent_folder() -> Path:
    """Where Ray creates its folder ``ray`` by default: RAY_TMPDIR, TMPDIR (on Linux) or /tmp."""
    variables = ("RAY_TMPDIR", "TMPDIR") if sys.platform == "linux" else ("RAY_TMPDIR",)
    return Path(next((os.environ[name] for name in variables if os.environ.get(name)), _DEFAULT_PARENT))


@contextmanager
def private_ray_folder() -> Iterator[Path]:
    """Create a folder that only this user can enter, and set the variables by which Ray uses a new token from it.

    Yields:
        Ray's temporary folder, inside it. It stays after the end, for Ray's logs; a later study removes it after a
        week.

    Raises:
        StudyError: the folder for temporary files does not exist, has a path too long for sockets, or lets other users
            replace its content.
    """
    parent = _checked_parent()
    _remove_old(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # mode 0700
    token = folder / _TOKEN
    with FileLock(folder / _LOCK):
        token.touch(mode=0o600, exist_ok=False)
        token.write_text(secrets.token_hex(32), encoding="ascii")
        with _ray_variables({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_AUTH_TOKEN": None}):
            # Ray makes its own folder writable by all: what protects it is the private one around it.
            yield folder / "ray"


def _checked_parent() -> Path:
    parent = ray_parent_folder()
    if len(os.fsencode(parent)) > _MAX_PARENT_BYTES:
        if os.environ.get("RAY_TMPDIR"):
            raise StudyError(
                f"RAY_TMPDIR is {parent}: too long for the paths of Ray's sockets; allowed: {_MAX_PARENT_BYTES} bytes. "
                "Name a shorter folder, or unset it to use /tmp"
            )
        parent = _DEFAULT_PARENT  # schedulers set long TMPDIRs
    if not parent.is_dir():
        raise StudyError(f"{parent}: Ray's folder for temporary files does not exist; create it, or set RAY_TMPDIR")
    if others_can_replace(parent):
        raise StudyError(
            f"{parent}: other users of this machine can replace files in this folder, which is for Ray's temporary "
            f"files; run: chmod +t {parent}; or name a folder of your own (RAY_TMPDIR)"
        )
    return parent


@contextmanager
def users_token() -> Iterator[None]:
    """Use the user's token, if there is one, for a cluster that ``ray start`` started on this machine.

    ``ray start`` uses the token of ~/.ray, if it exists, unless RAY_AUTH_MODE says otherwise. ``ray.init`` does so too,
    but not if it is given an address.
    """
    is_needed = "RAY_AUTH_MODE" not in os.environ and _has_token()
    with _ray_variables({"RAY_AUTH_MODE": "token"} if is_needed else {}):
        yield


@contextmanager
def _ray_variables(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables, or remove those of None, and restore them at the end."""
    before = {name: os.environ.get(name) for name in values}
    _set_variables(values)
    try:
        yield
    finally:
        _set_variables(before)


def _set_variables(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    # Ray may have read the variables before; ray.init reads them again in the same way.
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _has_token() -> bool:
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError

    try:
        return bool(AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True))
    except TypeError:  # of Ray 2.52, whose `ray start` uses no token unless RAY_AUTH_MODE is set
        return False
    except AuthenticationError:  # the file that RAY_AUTH_TOKEN_PATH names is absent: an error when Ray connects
        return True


def _remove_old(parent: Path) -> None:
    """Remove this user's folders of studies that ended a week ago or were killed: those that no process locks."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError, Timeout):
            state = folder.lstat()
            is_old = time.time() - state.st_mtime > _KEPT_SECONDS
            if is_old and S_ISDIR(state.st_mode) and state.st_uid == os.geteuid():
                with FileLock(folder / _LOCK, timeout=0):
                    shutil.rmtree(folder)
