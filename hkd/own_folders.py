"""Folders from which hkd reads what it wrote: created for this user, and checked for other users who can write there.

What is read from a cache or a study is data and is never executed, but whoever can write to its folder determines the
results. A folder in which every user of the machine can write is therefore refused, and one that some other users can
write to is warned of: on a cluster it may be shared on purpose.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shlex
import tempfile
import warnings
from pathlib import Path
from stat import S_IMODE, S_ISREG, S_ISVTX, S_IWGRP, S_IWOTH

NEW_FOLDER_MODE = 0o775
"""Further restricted by the umask: never writable by all, even under umask 0."""

_ROOT = 0

_warned: set[Path] = set()


class SharedFolderError(ValueError):
    """Every user of the machine can write to a folder that must not be changed by others."""


class ForeignFileError(PermissionError):
    """Another user of the machine made a file, or can write to it."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EPERM, "the file belongs to another user", str(path))


def create_own_folder(folder: Path, setting: str) -> None:
    """Create a folder with its parents unless it exists, and check it as :func:`check_own_folder` does.

    Raises:
        SharedFolderError: every user of the machine can write to it.
        OSError: it cannot be created.
    """
    for missing in reversed([path for path in folder.parents if not path.exists()]):
        missing.mkdir(mode=NEW_FOLDER_MODE, exist_ok=True)
    folder.mkdir(mode=NEW_FOLDER_MODE, exist_ok=True)  # an error if it is a file
    check_own_folder(folder, setting)


def check_own_folder(folder: Path, setting: str) -> None:
    """Check who else can write to a folder; an absent one is accepted.

    A warning names other users who can write: the owner, or the group if it is not this user's private group. On a file
    system that keeps no permissions (CIFS, FAT, WSL's /mnt/c) a warning says so. Below a folder that was warned of,
    nothing is warned of again.

    Args:
        setting: Dotted name of the setting that names the folder, for messages.

    Raises:
        SharedFolderError: every user of the machine can write to it.
    """
    if not folder.exists():
        return
    state = folder.stat()
    if state.st_mode & S_IWOTH:
        if _keeps_permissions(folder):
            raise SharedFolderError(_refusal(folder, S_IMODE(state.st_mode), setting))
        _warn(folder, "its file system keeps no permissions: perhaps other users can write to it", setting)
    elif state.st_uid not in (os.geteuid(), _ROOT):
        _warn(folder, f"it belongs to user {_user_name(state.st_uid)}, who can change what is read from it", setting)
    elif state.st_mode & S_IWGRP and not _is_private_group(state.st_gid):
        _warn(folder, f"group {_group_name(state.st_gid)} can write to it, and change what is read from it", setting)


def others_can_replace(folder: Path) -> bool:
    """Whether any user can rename or remove the files of others in this folder: writable by all, and not sticky."""
    mode = folder.stat().st_mode
    return bool(mode & S_IWOTH) and not mode & S_ISVTX


def read_own_file(path: Path, max_bytes: int, *, refuse_writable: bool = False) -> bytes:
    """The first bytes of a regular file of this user or of root; not through a symbolic link.

    Args:
        refuse_writable: Whether to refuse a file that every user of the machine can write to.

    Raises:
        ForeignFileError: it is another user's file, not a regular one, or one that every user can write to.
        OSError: it is absent or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ForeignFileError(path) if error.errno == errno.ELOOP else error from None
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        is_own = S_ISREG(state.st_mode) and state.st_uid in (os.geteuid(), _ROOT)
        if not is_own or (refuse_writable and state.st_mode & S_IWOTH):
            raise ForeignFileError(path)
        return file.read(max_bytes)


def _refusal(folder: Path, mode: int, setting: str) -> str:
    remedy = f"run: chmod o-w {shlex.quote(str(folder))}; or name another folder ({setting})"
    if mode & S_ISVTX:  # such as /tmp itself
        remedy = f"name a folder of your own ({setting}), such as {folder / 'hkd'}"
    return (
        f"{folder}: every user of this machine can write to this folder (mode {mode:o}) and replace what hkd reads "
        f"from it; {remedy}"
    )


def _keeps_permissions(folder: Path) -> bool:
    """Whether a file that is created for its owner alone appears as such."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return not os.fstat(file.fileno()).st_mode & S_IWOTH
    except OSError:  # not writable for this user
        return True


def _is_private_group(group: int) -> bool:
    """Whether a group is this user's own, by the convention of `useradd` and `pam_umask`: both have one name."""
    return group in (_ROOT, os.getegid()) and _group_name(group) in (_user_name(os.geteuid()), "root")


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _group_name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


def _warn(folder: Path, reason: str, setting: str) -> None:
    folder = folder.absolute()
    if _warned.isdisjoint((folder, *folder.parents)):
        _warned.add(folder)
        warnings.warn(f"{folder}: {reason} ({setting})", stacklevel=3)
