"""A study's folder in which somebody replaced files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hkd import bounded_files
from sweeps.folder import StudyError, StudyFolder
from sweeps.settings.study import StudyConfig, load_study
from sweeps.trials.records.journal import LedgerError
from sweeps.trials.records.ledger import open_ledger
from tests.hostile.yaml_files import BOMBS


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bounded_files, "SECONDS_TO_OPEN", 0.05)
    Path("study.yaml").write_text("name: x\n")
    found = load_study(Path("study.yaml"))
    StudyFolder(found).path.mkdir(parents=True)
    return found


JOURNALS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_bytes(b"garbage\n"),
    "bytes": lambda path: path.write_bytes(bytes(range(256)) + b"\n"),
    "list": lambda path: path.write_bytes(b"[]\n"),
    "null": lambda path: path.write_bytes(b"null\n"),
    "deep": lambda path: path.write_bytes(b"[" * 100_000 + b"\n"),
    "unknown operation": lambda path: path.write_bytes(b'{"op_code": 99, "worker_id": "a"}\n'),
    "operation without its arguments": lambda path: path.write_bytes(b'{"op_code": 0, "worker_id": "a"}\n'),
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("name", JOURNALS)
def test_journal(name: str, study: StudyConfig) -> None:
    journal = StudyFolder(study).journal
    JOURNALS[name](journal)
    with pytest.raises(LedgerError, match=r"trials.journal(, line 1)?: .*--name NAME"):
        open_ledger(study, journal)


@pytest.mark.parametrize("name", BOMBS)
def test_recorded_configuration(name: str, study: StudyConfig) -> None:
    StudyFolder(study).config_file.write_bytes(BOMBS[name])
    with pytest.raises(StudyError, match=r"x/study.yaml"):
        StudyFolder(study).check(study)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_recorded_configuration_that_is_no_file(make: Callable[[Path], object], study: StudyConfig) -> None:
    make(StudyFolder(study).config_file)
    with pytest.raises(StudyError, match=r"x/study.yaml:\n  cannot be read"):
        StudyFolder(study).check(study)
