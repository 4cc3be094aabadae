"""The file of the ledger: what is read after a crash, and what happens when it cannot be written."""

from __future__ import annotations

import resource
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler
from optuna.storages.journal import JournalFileBackend

from sweeps.trials.records.journal import Journal, LedgerError
from sweeps.trials.records.ledger import Ledger
from tests.sweeps.trials.records.test_ledger import JOURNAL, OBJECTIVES, SPACE, open_ledger, proposed


@contextmanager
def disk_full_after(path: Path, more_bytes: int) -> Iterator[None]:
    """Let the system write at most this much more to the file, as a full disk would: a part, then an error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + more_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_journal_has_the_records_of_optunas_own_file(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.finish(ledger.record_metrics(proposed(ledger), {"epoch": 1, "mr2_reasonable": 0.5, "flops": 1}))
    reference = list(JournalFileBackend(str(tmp_path / JOURNAL)).read_logs(0))
    assert list(Journal(tmp_path / JOURNAL).read_logs(0)) == reference
    assert len(reference) > 5


def test_proposal_is_written_to_the_disk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = open_ledger(tmp_path)
    flushed: list[int] = []
    monkeypatch.setattr("sweeps.trials.records.journal.os.fsync", flushed.append)
    trial = proposed(ledger)
    assert len(flushed) == 1
    ledger.record_checkpoint(trial, Path("trial-001/checkpoint_000000"), 1)
    assert len(flushed) == 2


@pytest.mark.parametrize("content", [b"not a record\n", b"\n", b"\xff\x00\n", b'{"op_code": 2}\n', b'{"op_code": 9'])
def test_damaged_record_is_named_with_line_and_a_remedy_that_works(tmp_path: Path, content: bytes) -> None:
    ledger = open_ledger(tmp_path)
    proposed(ledger)
    journal = tmp_path / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    proposed(ledger)
    more = journal.read_bytes()[len(b"".join(lines)) :]
    journal.write_bytes(b"".join(lines) + content + more)
    # The line is the one after those of the first trial.
    with pytest.raises(LedgerError, match=rf"{JOURNAL}, line {len(lines) + 1}: .*--name NAME") as caught:
        open_ledger(tmp_path)
    command = str(caught.value).partition("before this line: ")[2]
    assert shlex.quote(str(journal)) in command
    subprocess.run(command, shell=True, check=True)
    assert [trial.trial_id for trial in open_ledger(tmp_path).trials()] == ["trial-001"]
    assert content in Path(f"{journal}.damaged").read_bytes()


def test_nothing_is_appended_after_a_failed_append(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    trial = proposed(ledger)
    journal = tmp_path / JOURNAL
    complete = journal.read_bytes()
    with disk_full_after(journal, 20), pytest.raises(LedgerError, match=rf"{JOURNAL}: .*--resume"):
        ledger.record_metrics(trial, {"epoch": 1, "mr2_reasonable": 0.5})
    # The part that was written is removed; the disk has space again, but the record between is lost.
    assert journal.read_bytes() == complete
    with pytest.raises(LedgerError, match="--resume"):
        ledger.record_metrics(trial, {"epoch": 2, "mr2_reasonable": 0.4})
    assert journal.read_bytes() == complete
    again = open_ledger(tmp_path)
    (running,) = again.running()
    assert again.record_metrics(running, {"epoch": 1, "mr2_reasonable": 0.5}).metrics["mr2_reasonable"] == 0.5


def test_second_writer_is_noticed(tmp_path: Path) -> None:
    one, two = open_ledger(tmp_path), open_ledger(tmp_path)
    proposed(one)
    content = (tmp_path / JOURNAL).read_bytes()
    with pytest.raises(LedgerError, match="another process"):
        proposed(two)
    assert (tmp_path / JOURNAL).read_bytes() == content


def test_removed_journal_is_not_written_again(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    (tmp_path / JOURNAL).unlink()
    with pytest.raises(LedgerError, match="No such file"):
        proposed(ledger)
    assert not (tmp_path / JOURNAL).exists()


def test_journal_of_earlier_version_is_read(tmp_path: Path) -> None:
    # Written by hkd before epochs were kept: only the last metrics of a trial.
    ledger = Ledger(tmp_path / JOURNAL, OBJECTIVES, SPACE, None, lambda number: RandomSampler(seed=number))
    trial = proposed(ledger)
    ledger._set("trial", trial.number, {"metrics": {"epoch": 2, "mr2_reasonable": 0.5}})
    (read,) = open_ledger(tmp_path).trials()
    assert (read.metrics, read.epochs) == ({"epoch": 2, "mr2_reasonable": 0.5}, {})
