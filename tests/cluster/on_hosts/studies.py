"""Small studies of the fault table: their sessions, their records, and what was lost."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sweeps.trials.records.journal import LedgerError
from sweeps.trials.records.trial import LedgerTrial, read_trials
from tests.cluster.on_hosts.hosts import Host
from tests.cluster.on_hosts.user import Terminal, wait_until
from tests.sweeps.tiny import tiny_trial, write_tiny_study

EPOCHS: Final = 100
TRIALS: Final = frozenset({"trial-001", "trial-002"})


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    fault: str
    repeated: int
    """Epochs that had complete checkpoints and were trained again."""
    code: int
    message: str
    seconds: float

    def line(self) -> str:
        return f"| {self.fault} | {self.repeated} | {self.code} | {self.message} | {self.seconds:.0f} |"


class Session(Terminal):
    """A driver on a host."""

    def wait_for_line(self, pattern: str) -> str:
        """Wait for a line with the pattern, and return it."""
        self.wait_for(pattern)
        return next(line.strip() for line in self.shown.splitlines() if re.search(pattern, line))


class Study:
    """Two trials of many short epochs, one per worker, in the shared folder or in a bucket."""

    def __init__(self, folder: Path, fault: str, storage: str = "runs", epochs: int = EPOCHS) -> None:
        self.num_epochs = epochs
        self.name = re.sub(r"[^a-z0-9]+", "-", fault.lower()).strip("-")
        self.driver_pattern = f"^python sweeps/run.py --config /shared/{self.name}.yaml"
        self._folder = folder
        self.folder = folder / "shared" / "runs" / self.name
        if storage != "runs":
            self.folder = folder / "host1" / "root" / "home" / "hkd-host" / "cache"
        base = {**tiny_trial(Path("/home/hkd-host/cache"), total_epochs=epochs), "teacher": None}
        write_tiny_study(
            folder / "shared" / f"{self.name}.yaml",
            Path("/home/hkd-host/cache"),
            name=self.name,
            base=base,
            space={"student.pyramid_channels": {"type": "int", "low": 8, "high": 32, "step": 8}},
            baselines={},
            storage_path=storage,
            resources={"cpus_per_trial": 1, "gpus_per_trial": 1, "max_concurrent_trials": 2},
        )

    def start(self, host: Host, *options: str) -> Session:
        command = f"python sweeps/run.py --config /shared/{self.name}.yaml {' '.join(options)}"
        shell = f". ~/.hkd_profile; cd ~/hkd; export COLUMNS=200; {command}; exit $?"
        return Session(host.arguments(shell), self._folder, dict(os.environ))

    @staticmethod
    def now() -> float:
        return time.time()

    def trials(self) -> dict[str, LedgerTrial]:
        journals = [*self.folder.glob("trials.journal"), *self.folder.glob(f"storage/*/{self.name}/trials.journal")]
        try:
            return {trial.trial_id: trial for trial in read_trials(journals[0])} if journals else {}
        except LedgerError:  # the study writes its first records
            return {}

    def epochs(self) -> dict[str, int]:
        """Epochs of the last complete checkpoint of each trial."""
        return {key: trial.epoch for key, trial in self.trials().items()}

    def newest(self, trial_id: str | None = None) -> float:
        """Time of the newest record of an epoch, of a trial or of all."""
        return max(self._times(trial_id), default=0.0)

    def newest_epoch_after(self, start: float, trial_id: str | None = None) -> float:
        """Time of the first epoch that was recorded after ``start``; not a number if there is none."""
        return min((each for each in self._times(trial_id) if each > start), default=float("nan"))

    def _times(self, trial_id: str | None) -> list[float]:
        trials = self.trials()
        chosen = trials.values() if trial_id is None else [trials[trial_id]]
        return [epoch.time_ms / 1000 for trial in chosen for epoch in trial.epochs.values()]

    def wait_for_epochs(self, number: int, session: Session) -> None:
        """Until both trials have checkpoints of ``number`` epochs or more."""

        def are_trained() -> bool:
            assert not session.is_ended, session.shown
            return {key for key, trial in self.trials().items() if trial.epoch >= number} == TRIALS

        wait_until(are_trained, f"{number} epochs of {self.name}")

    def repeated(self, session: Session, before: dict[str, int]) -> int:
        """Epochs in ``before`` that this session trained again."""
        resumed = dict(re.findall(r"(trial-\d+) resumes after epoch (\d+)", session.shown))
        earlier = dict(re.findall(r"(trial-\d+): repeated from epoch (\d+)", session.shown))
        first = {**{key: int(epoch) for key, epoch in resumed.items()}}
        first |= {key: int(epoch) - 1 for key, epoch in earlier.items()}
        return sum(max(0, before[key] - epoch) for key, epoch in first.items())

    def row(self, fault: str, code: int, message: str, seconds: float, repeated: int) -> Row:
        """The line of the table; every epoch of every trial is in the ledger."""
        ended = {key: (trial.status, list(trial.epochs)) for key, trial in self.trials().items()}
        expected = {key: ("finished", list(range(1, self.num_epochs + 1))) for key in TRIALS}
        is_complete = ended == expected
        return Row(fault, repeated, code, message if is_complete else f"INCOMPLETE {ended}: {message}", seconds)


def mount_shared_folder(folder: Path, host: Host) -> None:
    """Mount the shared folder of a host again, from outside, as its network file system would."""
    number = host.address[-1]
    root = folder / f"host{number}" / "root"
    process = next(
        path.name
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and (path / "root").exists() and (path / "root").readlink() == root
    )
    command = ["nsenter", "--target", process, "--mount", "mount", "--bind", str(folder / "shared"), f"{root}/shared"]
    subprocess.run(command, check=True)
