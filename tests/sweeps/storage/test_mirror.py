"""The record of a study in a bucket, and who may write it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hkd.buckets import StorageError
from sweeps.storage import mirror
from sweeps.storage.mirror import StudyMirror
from sweeps.storage.objects import ObjectStorage
from tests.sweeps.storage.s3_server import S3Server

FIRST, SECOND = b'{"number": 1}\n', b'{"number": 2}\n'


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_UPLOADS", 0.02)
    monkeypatch.setattr(mirror, "LAST_SECONDS", 0.1)


def mirrored(storage: ObjectStorage) -> StudyMirror:
    folder = storage.copies / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    return StudyMirror(storage, folder, config="study.yaml", journal="trials.journal", others=("teacher.json",))


def write_record(storage: ObjectStorage, journal: bytes) -> None:
    (storage.copies / "tiny" / "study.yaml").write_bytes(b"name: tiny\n")
    (storage.copies / "tiny" / "trials.journal").write_bytes(journal)


def journal_of(storage: ObjectStorage) -> bytes:
    return (storage.copies / "tiny" / "trials.journal").read_bytes()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_another_machine_resumes_from_the_mirror(storage: ObjectStorage, other_machine: ObjectStorage) -> None:
    with mirrored(storage):
        write_record(storage, FIRST)
    with mirrored(other_machine):
        assert journal_of(other_machine) == FIRST
        write_record(other_machine, FIRST + SECOND)
    with mirrored(storage):  # whose own record is older
        assert journal_of(storage) == FIRST + SECOND


def test_own_newer_record_stays(storage: ObjectStorage) -> None:
    with mirrored(storage):
        write_record(storage, FIRST)
    write_record(storage, FIRST + SECOND + b'{"partial')
    with mirrored(storage):
        assert journal_of(storage) == FIRST + SECOND + b'{"partial'


def test_records_that_both_changed_are_refused(storage: ObjectStorage, other_machine: ObjectStorage) -> None:
    with mirrored(storage):
        write_record(storage, FIRST)
    write_record(storage, FIRST + SECOND)
    with mirrored(other_machine):
        write_record(other_machine, FIRST + FIRST)
    with pytest.raises(StorageError) as raised, mirrored(storage):
        pass
    assert str(storage.copies / "tiny") in str(raised.value)
    assert journal_of(storage) == FIRST + SECOND
    with mirrored(other_machine):  # the refused process does not own the study
        pass


def test_study_runs_on_one_machine_at_a_time(
    storage: ObjectStorage, other_machine: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mirrored(storage) as first:
        write_record(storage, FIRST)
        # Its next heartbeat is a minute later.
        wait_until(first._is_uploaded)
        assert storage.read(storage.copies / "tiny" / "study.yaml") is not None
        with pytest.raises(StorageError, match="another process runs this study"), mirrored(other_machine):
            pass
        # As if the first one had not reached the bucket for minutes.
        monkeypatch.setattr(mirror, "OWNER_LOST_SECONDS", -1.0)
        with mirrored(other_machine):
            assert journal_of(other_machine) == FIRST
            write_record(storage, FIRST + SECOND)

            def is_lost() -> bool:
                try:
                    first.raise_if_lost()
                except StorageError:
                    return True
                return False

            wait_until(is_lost)
    assert storage.read(storage.copies / "tiny" / "trials.journal") == FIRST


def test_killed_process_is_replaced_at_once_on_its_own_machine(storage: ObjectStorage, tmp_path: Path) -> None:
    killed = mirrored(storage)
    killed.__enter__()
    with killed._changed:  # ends its thread
        killed._is_ending = True
        killed._changed.notify_all()
    with mirrored(storage):
        pass


def test_checkpoints_are_removed_after_the_record_that_names_others(storage: ObjectStorage, server: S3Server) -> None:
    attempt = storage.copies / "tiny" / "trial-001"
    for number in (1, 2, 3):
        storage.write(attempt / f"checkpoint_{number}" / "state", b"x")
    other = storage.copies / "tiny" / "trial-001-seed-3"  # a trial of its own
    storage.write(other / "checkpoint_1" / "state", b"x")
    with mirrored(storage) as study:
        write_record(storage, FIRST)
        server.stop()
        write_record(storage, FIRST + SECOND)
        study.remove_checkpoints([attempt], [Path("trial-001/checkpoint_2"), Path("trial-001/checkpoint_3")])
        server.start()
        wait_until(lambda: "runs/tiny/trial-001/checkpoint_1/state" not in server.objects())
        assert storage.read(storage.copies / "tiny" / "trials.journal") == FIRST + SECOND
        study.remove_checkpoints([attempt], [Path("trial-001/checkpoint_3")])  # the record is there already
        wait_until(lambda: "runs/tiny/trial-001/checkpoint_2/state" not in server.objects())
    assert {key for key in server.objects() if "checkpoint" in key} == {
        "runs/tiny/trial-001/checkpoint_3/state",
        "runs/tiny/trial-001-seed-3/checkpoint_1/state",
    }


def test_checkpoint_that_is_newer_than_the_kept_ones_is_not_removed(storage: ObjectStorage, server: S3Server) -> None:
    """A worker uploads it before the driver records it, and before an earlier request to remove checkpoints is done."""
    first, last = (storage.copies / "tiny" / name for name in ("trial-001", "trial-001-attempt-2"))
    for attempt in (first, last):
        for number in (1, 2, 3):
            storage.write(attempt / f"checkpoint_{number}" / "state", b"x")
    with mirrored(storage) as study:
        write_record(storage, FIRST)
        study.remove_checkpoints([first, last], [Path("trial-001-attempt-2/checkpoint_2")])
    assert {key for key in server.objects() if "checkpoint" in key} == {
        f"runs/tiny/trial-001-attempt-2/checkpoint_{number}/state" for number in (2, 3)
    }


def test_record_is_uploaded_after_a_change_that_nobody_reports(storage: ObjectStorage) -> None:
    journal = storage.copies / "tiny" / "trials.journal"
    with mirrored(storage):
        write_record(storage, FIRST)
        wait_until(lambda: storage.read(journal) == FIRST)
        write_record(storage, FIRST + SECOND)
        wait_until(lambda: storage.read(journal) == FIRST + SECOND)


def test_process_that_was_stopped_while_another_ran_the_study_writes_nothing(
    storage: ObjectStorage,
    other_machine: ObjectStorage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A notebook sleeps; meanwhile another machine resumes the study to its end, and gives it up."""
    journal, owner = (storage.copies / "tiny" / name for name in ("trials.journal", mirror.OWNER))
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_UPLOADS", 60.0)  # it sleeps
    with mirrored(storage):
        write_record(storage, FIRST)
        monkeypatch.setattr(mirror, "OWNER_LOST_SECONDS", -1.0)
        with mirrored(other_machine):
            write_record(other_machine, FIRST + SECOND)
        assert storage.read(owner) is None
        write_record(storage, FIRST + FIRST)
    assert storage.read(journal) == FIRST + SECOND
    assert "another process resumed it" in caplog.text


def test_process_that_ends_leaves_the_study_to_its_new_owner(
    storage: ObjectStorage, other_machine: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = storage.copies / "tiny" / mirror.OWNER
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_UPLOADS", 60.0)
    with mirrored(storage):
        write_record(storage, FIRST)
        monkeypatch.setattr(mirror, "OWNER_LOST_SECONDS", -1.0)
        second = mirrored(other_machine)
        second.__enter__()
    assert storage.read(owner) == (other_machine.copies / "tiny" / mirror.OWNER).read_bytes()
    second.__exit__()


def test_last_records_of_a_session_that_cannot_be_uploaded_are_reported(
    storage: ObjectStorage, server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    with mirrored(storage):
        server.stop()
        write_record(storage, FIRST)
    server.start()
    assert str(storage.copies / "tiny") in caplog.text
    with mirrored(storage):
        pass
    assert storage.read(storage.copies / "tiny" / "trials.journal") == FIRST
