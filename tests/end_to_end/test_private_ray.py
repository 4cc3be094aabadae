"""A local Ray cluster on a machine with other users: who can enter it, and what a study reads from its folders."""

from __future__ import annotations

import os
import pickle
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.tune.experiment import Trial

from hkd import metric_names as names
from sweeps.console.display import TrialBoard
from sweeps.execution.cluster.connection import connected
from sweeps.execution.tune.callback import Recorder
from sweeps.execution.tune.run import TrialInputs, run_trials
from sweeps.folder import StudyFolder
from sweeps.interruption import Interruption
from sweeps.settings.resources import TrialResources
from sweeps.settings.study import StudyConfig
from sweeps.tracking.tracker import Tracker
from sweeps.trials.queue import TrialQueue
from sweeps.trials.records.ledger import open_ledger
from sweeps.trials.worker import METRICS, DistillationTrial, TrialSpec
from tests.sweeps.console.test_display import plain_display
from tests.sweeps.mlflow_double import MlflowDouble

NOBODY = 65534
RAISES, RAISES_UNPICKLABLE, LOSES_WORKER = 1, 2, 3
"""Seeds, which determine what a trial does."""


class UnpicklableError(Exception):
    """An exception that no pickle can hold."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class FailingTrial(DistillationTrial):
    """Raises, or kills its process, as its seed says; the second attempt ends."""

    def _start(self, spec: TrialSpec) -> None:
        self._spec = spec

    def step(self) -> Mapping[str, Any]:  # type: ignore[override]
        seed = self._spec.config.training.seed
        if seed == RAISES:
            raise ValueError("boom")
        if seed == RAISES_UNPICKLABLE:
            raise UnpicklableError("cannot be pickled")
        if not self._spec.folder_name.endswith("attempt-2"):
            os.kill(os.getpid(), signal.SIGKILL)
        done = {names.EPOCH: 1, names.BUDGET_FRACTION: 1, "mr2_reasonable": 0.5, "num_params": 1.0, "flops": 1.0}
        return {METRICS: done, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / names.ARTIFACT_METRICS).write_text("{}", encoding="utf-8")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    # A short path, for sockets.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield tmp_path / "home"


def session_folder() -> Path:
    node: Any = ray._private.worker._global_node
    return Path(node.get_session_dir_path())


def test_other_users_can_neither_enter_the_folder_nor_the_cluster(home: Path) -> None:
    with connected(None):
        session = session_folder()
        private = session.parents[1]
        assert private.stat().st_uid == os.geteuid()
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        token = private / "auth_token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert os.environ["RAY_AUTH_MODE"] == "token"
        address = ray.get_runtime_context().gcs_address
        # Workers have the token, which is not the one of ~/.ray.
        assert ray.get(ray.remote(lambda: os.environ["RAY_AUTH_TOKEN_PATH"]).remote()) == str(token)
        assert not (home / ".ray").exists()
        program = f"import ray; ray.init(address={address!r}); ray.get(ray.remote(lambda: print('ran')).remote())"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
        command = [sys.executable, "-c", program]
        other = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert other.returncode != 0
        assert "AuthenticationError" in other.stderr
        if os.geteuid() == 0:
            command = ["ls", str(session)]
            listing = subprocess.run(command, user=NOBODY, capture_output=True, text=True, check=False)
            assert "Permission denied" in listing.stderr
    assert "RAY_AUTH_MODE" not in os.environ
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


@pytest.fixture
def replaced_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another user replaces each pickled error the moment it was written; returns the file that the code creates."""
    handle_error = Trial.handle_error

    def replace(trial: Trial, exc: Any = None) -> None:
        handle_error(trial, exc)
        if trial.pickled_error_file is not None:
            Path(trial.pickled_error_file).write_bytes(pickle.dumps(Payload(tmp_path / "executed")))

    monkeypatch.setattr(Trial, "handle_error", replace)
    pickle.loads(pickle.dumps(Payload(tmp_path / "works")))
    assert (tmp_path / "works").exists()
    return tmp_path / "executed"


@pytest.mark.usefixtures("home")
def test_replaced_error_of_a_trial_is_not_executed(tmp_path: Path, replaced_errors: Path) -> None:
    raw = {"name": "x", "storage_path": tmp_path / "runs", "base": {"teacher": None}, "baselines": {}}
    seeds = [RAISES, RAISES_UNPICKLABLE, LOSES_WORKER]
    space = {"training.seed": {"type": "categorical", "choices": seeds}}
    study = StudyConfig.model_validate({**raw, "space": space, "search": {"num_trials": 3, "sampler": "random"}})
    folder = StudyFolder(study)
    folder.path.mkdir(parents=True)
    ledger = open_ledger(study, folder.journal)
    tracker = Tracker(MlflowDouble().client(), "http://host", "x", None)
    tracker.start_study({}, {}, "")
    display, out = plain_display()
    queue = TrialQueue(study, ledger, lambda _: None)
    board = TrialBoard(display, objectives=study.objectives, total=3, ended=[], epochs_per_trial=1)
    recorder = Recorder(
        folder, study.objectives, ledger, tracker, board, put_back=queue.put_back, is_interrupted=lambda: False
    )
    inputs = TrialInputs(None, None, TrialResources(num_cpus=1.0, num_gpus=0.0, num_threads=1, max_concurrent=1))
    with connected(None):
        run_trials(study, folder, queue, recorder, inputs, Interruption(), FailingTrial)
    assert not replaced_errors.exists()
    ended = {int(trial.params["training.seed"]): trial for trial in ledger.trials()}
    assert {seed: ended[seed].status for seed in seeds} == {
        RAISES: "failed",
        RAISES_UNPICKLABLE: "failed",
        LOSES_WORKER: "finished",
    }
    assert (ended[RAISES].error or "").splitlines()[-1] == "ValueError: boom"
    assert "UnpicklableError: cannot be pickled" in (ended[RAISES_UNPICKLABLE].error or "")
    assert ended[LOSES_WORKER].attempts == 2
    assert "worker lost (The actor died unexpectedly before finishing this task); queued again (1" in out.getvalue()
