"""Who else can write to a folder of hkd's, and files of other users."""

from __future__ import annotations

import grp
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from hkd import own_folders
from hkd.own_folders import (
    ForeignFileError,
    SharedFolderError,
    check_own_folder,
    create_own_folder,
    others_can_replace,
    read_own_file,
)
from tests.conftest import REPOSITORY

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user: run as root")


def test_new_folder_is_never_writable_by_all(tmp_path: Path) -> None:
    program = (
        "import os, sys, warnings; from pathlib import Path; from hkd.own_folders import create_own_folder\n"
        "warnings.simplefilter('ignore'); os.umask(0); create_own_folder(Path(sys.argv[1]), 'data.cache_dir')"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a" / "b")], check=True, cwd=REPOSITORY)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o775
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o775


@pytest.mark.parametrize(
    ("mode", "remedy"), [(0o777, "chmod o-w {folder}"), (0o773, "chmod o-w {folder}"), (0o1777, "such as {folder}/hkd")]
)
def test_folder_that_all_can_write_to_is_refused(tmp_path: Path, mode: int, remedy: str) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(SharedFolderError) as caught:
        create_own_folder(folder, "data.cache_dir")
    for fact in (str(folder), f"mode {mode:o}", "data.cache_dir", remedy.format(folder=folder)):
        assert fact in str(caught.value)


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750, 0o1755])
def test_folder_that_others_cannot_write_to_is_accepted(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    create_own_folder(folder, "data.cache_dir")
    check_own_folder(tmp_path / "absent", "data.cache_dir")
    assert not (tmp_path / "absent").exists()


@needs_root
def test_other_owner_is_warned_of(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, -1)
    with pytest.warns(UserWarning, match=r"belongs to user nobody.*\(data.cache_dir\)"):
        create_own_folder(tmp_path, "data.cache_dir")


@needs_root
def test_group_of_others_is_warned_of_once_and_not_below(tmp_path: Path) -> None:
    group = next(entry for entry in grp.getgrall() if entry.gr_gid not in (0, NOBODY))
    os.chown(tmp_path, -1, group.gr_gid)
    tmp_path.chmod(0o2775)
    with pytest.warns(UserWarning, match=rf"group {group.gr_name} can write to it.*\(storage_path\)"):
        create_own_folder(tmp_path, "storage_path")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_own_folder(tmp_path, "storage_path")
        (tmp_path / "below").mkdir()
        (tmp_path / "below").chmod(0o775)
        create_own_folder(tmp_path / "below", "storage_path")


def test_private_group_is_not_warned_of(tmp_path: Path) -> None:
    # The umask 002 of distributions where each user has an own group; root's here.
    group = grp.getgrgid(os.getegid()).gr_name
    if group not in ("root", os.environ.get("USER")):
        pytest.skip("this user has no private group")
    tmp_path.chmod(0o775)
    create_own_folder(tmp_path, "data.cache_dir")


def test_file_system_without_permissions_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As WSL's /mnt/c and CIFS: every folder and file appears writable by all, and chmod changes nothing.
    tmp_path.chmod(0o777)
    monkeypatch.setattr(own_folders, "_keeps_permissions", lambda _: False)
    with pytest.warns(UserWarning, match="keeps no permissions"):
        create_own_folder(tmp_path, "data.cache_dir")


def test_this_file_system_keeps_permissions(tmp_path: Path) -> None:
    assert own_folders._keeps_permissions(tmp_path)


def test_folder_cannot_be_created_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        create_own_folder(tmp_path / "file", "data.cache_dir")


def test_sticky_bit_protects_files_of_others(tmp_path: Path) -> None:
    for mode, expected in ((0o755, False), (0o777, True), (0o1777, False)):
        tmp_path.chmod(mode)
        assert others_can_replace(tmp_path) is expected


def test_own_file_is_read_up_to_a_size(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    assert read_own_file(tmp_path / "file", 4) == b"0123"
    with pytest.raises(FileNotFoundError):
        read_own_file(tmp_path / "absent", 4)


def test_link_pipe_and_file_that_all_can_write_to_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(ForeignFileError):
            read_own_file(tmp_path / name, 4)
    (tmp_path / "file").chmod(0o666)
    assert read_own_file(tmp_path / "file", 4) == b"0123"
    with pytest.raises(ForeignFileError):
        read_own_file(tmp_path / "file", 4, refuse_writable=True)


@needs_root
def test_file_of_another_user_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    os.chown(tmp_path / "file", NOBODY, -1)
    with pytest.raises(ForeignFileError):
        read_own_file(tmp_path / "file", 4)
