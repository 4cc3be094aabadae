"""What the recorder makes of Tune's news, and what Tune is given to run; with stand-ins for Tune's trials."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from optuna.samplers import RandomSampler
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError
from ray.tune import Checkpoint
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from hkd.config import TrialConfig
from hkd.models.cost import Cost
from sweeps.console.display import TrialBoard
from sweeps.execution.tune_callback import MAX_LOSSES, Recorder
from sweeps.execution.tune_searcher import Proposals
from sweeps.folder import StudyFolder
from sweeps.settings.study import StudyConfig
from sweeps.tracking.tracker import Tracker
from sweeps.trials.ledger import Ledger, LedgerTrial
from sweeps.trials.worker import METRICS, SPEC, TrialSpec, WorkPlace
from tests.sweeps.console.test_display import plain_display
from tests.sweeps.mlflow_double import MlflowDouble

OBJECTIVES = ("mr2_reasonable", "flops")


class Scene:
    """A recorder with a real ledger, MLflow's double, and one baseline that Tune is to run."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = StudyFolder(StudyConfig(name="x", storage_path=tmp_path))
        self.folder.path.mkdir()
        self.ledger = Ledger(self.folder.journal, OBJECTIVES, {}, None, lambda number: RandomSampler(seed=number))
        self.store = MlflowDouble()
        tracker = Tracker(self.store.client(), "http://host", "x", None)
        tracker.start_study({}, {}, "")
        display, self.out = plain_display()
        self.again: list[LedgerTrial] = []
        self.is_interrupted = False
        self.recorder = Recorder(
            self.folder,
            OBJECTIVES,
            self.ledger,
            tracker,
            TrialBoard(display, total=1, ended=[], epochs_per_trial=2),
            cost_of=lambda _: Cost(10, 100),
            again=self.again.append,
            is_interrupted=lambda: self.is_interrupted,
        )
        self.begin(self.ledger.begin_baseline("b", {}))

    def begin(self, known: LedgerTrial) -> None:
        self.recorder.running(known)
        spec = TrialSpec(
            known.trial_id,
            TrialConfig(),
            None,
            None,
            known.trial_id,
            WorkPlace(1, has_gpu=False, working_directory=Path()),
        )
        self.trial = SimpleNamespace(config={SPEC: spec}, error_file=None, pickled_error_file=None)

    def tell(self, event: str, **info: Any) -> None:
        """As Tune does: everything by name."""
        trial = cast("Trial", self.trial)
        getattr(self.recorder, event)(
            iteration=0, trials=[trial], **({} if event == "on_step_end" else {"trial": trial}), **info
        )

    def epoch(self, epoch: int, **metrics: float) -> None:
        reported = {"epoch": epoch, "budget_fraction": epoch / 2, **metrics}
        # Tune adds much of its own.
        self.tell("on_trial_result", result={METRICS: reported, "pid": 7, "training_iteration": epoch})

    def checkpoint(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text("{}", encoding="utf-8")
        self.tell("on_checkpoint", checkpoint=Checkpoint.from_directory(str(folder)))

    def fail(self, tmp_path: Path, error: Exception, text: str) -> None:
        self.trial.error_file, self.trial.pickled_error_file = str(tmp_path / "error.txt"), str(tmp_path / "error.pkl")
        (tmp_path / "error.txt").write_text(text, encoding="utf-8")
        (tmp_path / "error.pkl").write_bytes(pickle.dumps(error))
        self.tell("on_trial_error")

    def fail_of(self, trial: SimpleNamespace, tmp_path: Path) -> None:
        """Let another trial than the last begun fail."""
        now, self.trial = self.trial, trial
        self.fail(tmp_path, ValueError("x"), "x")
        self.trial = now

    @property
    def known(self) -> LedgerTrial:
        (trial,) = self.ledger.trials()
        return trial


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_trials_are_counted_while_they_are_on_workers(scene: Scene, tmp_path: Path) -> None:
    first = scene.trial
    assert scene.recorder.most_at_a_time == 0
    scene.tell("on_trial_start")
    scene.begin(scene.ledger.begin_baseline("c", {}))
    # Handed to Tune, which has no room for it yet.
    assert scene.recorder.most_at_a_time == 1
    scene.fail_of(first, tmp_path)
    scene.tell("on_trial_start")
    assert scene.recorder.most_at_a_time == 1
    scene.begin(scene.ledger.begin_baseline("d", {}))
    scene.tell("on_trial_start")
    assert scene.recorder.most_at_a_time == 2


def test_a_trial_that_is_trained_to_its_end(scene: Scene) -> None:
    scene.tell("on_trial_start")
    scene.epoch(1, loss_total=3.0)
    scene.checkpoint(scene.folder.path / "baseline-b" / "checkpoint_000000")
    assert (scene.known.epoch, scene.known.checkpoint) == (1, Path("baseline-b/checkpoint_000000"))
    scene.epoch(2, loss_total=2.0, mr2_reasonable=0.5, flops=100)
    scene.checkpoint(scene.folder.path / "baseline-b" / "checkpoint_000001")
    scene.tell("on_trial_complete")
    assert scene.known.status == "finished"
    assert scene.known.metrics["mr2_reasonable"] == 0.5
    run = scene.store.named("baseline-b")
    assert run.status == "FINISHED"
    assert run.steps_of("loss_total") == [1, 2]
    assert "pid" not in {name for name, _, _ in run.history}
    assert run.artifacts == {"metrics.json": "{}"}
    assert scene.recorder.num_running == 0
    assert "baseline-b finished: 50.0 % missed" in scene.out.getvalue()


def test_a_trial_that_is_stopped_early_is_not_finished(scene: Scene) -> None:
    scene.tell("on_trial_start")
    scene.epoch(1, mr2_reasonable=0.1, flops=100)
    scene.tell("on_trial_complete")
    assert scene.known.status == "stopped"
    assert scene.store.named("baseline-b").tags["hkd.status"] == "stopped"


def test_a_trial_without_a_value_of_an_objective_failed(scene: Scene) -> None:
    scene.tell("on_trial_start")
    scene.epoch(2, flops=100)
    scene.tell("on_trial_complete")
    assert (scene.known.status, scene.known.error) == ("failed", "the trial ended without a value of mr2_reasonable")


def test_a_trial_that_raises_failed_and_is_not_tried_again(scene: Scene, tmp_path: Path) -> None:
    scene.tell("on_trial_start")
    scene.fail(tmp_path, ValueError("boom"), "Failure # 1\nValueError: boom\n")
    assert scene.known.status == "failed"
    assert scene.again == []
    run = scene.store.named("baseline-b")
    assert (run.status, run.tags["hkd.error"]) == ("FAILED", "ValueError: boom")
    assert "baseline-b failed: ValueError: boom" in scene.out.getvalue()


def test_a_trial_whose_worker_is_lost_is_run_again_but_not_for_ever(scene: Scene, tmp_path: Path) -> None:
    scene.tell("on_trial_start")
    scene.epoch(1)
    scene.checkpoint(scene.folder.path / "baseline-b" / "checkpoint_000000")
    for loss in range(1, MAX_LOSSES + 1):
        scene.fail(tmp_path, ActorDiedError(), "The actor died unexpectedly")
        assert scene.known.status == "running"
        assert len(scene.again) == loss
        assert scene.recorder.num_running == 0
        scene.begin(scene.ledger.begin_again(scene.again[-1]))
        assert scene.known.checkpoint == Path("baseline-b/checkpoint_000000")
    scene.fail(tmp_path, ActorDiedError(), "The actor died unexpectedly")
    assert scene.known.status == "failed"
    assert len(scene.again) == MAX_LOSSES


@pytest.mark.parametrize("kind", [OutOfMemoryError, NodeDiedError])
def test_a_worker_may_be_lost_in_other_ways(scene: Scene, tmp_path: Path, kind: type[Exception]) -> None:
    error = kind("the node is in trouble")
    scene.tell("on_trial_start")
    scene.fail(tmp_path, error, str(error))
    assert scene.known.status == "running"
    assert len(scene.again) == 1


def test_an_earlier_attempts_files_go_once_there_are_newer_ones(scene: Scene) -> None:
    scene.tell("on_trial_start")
    scene.epoch(1)
    first = scene.folder.path / "baseline-b" / "checkpoint_000000"
    scene.checkpoint(first)
    scene.begin(scene.ledger.begin_again(scene.known))
    scene.tell("on_trial_start")
    scene.epoch(2)
    assert first.is_dir()
    scene.checkpoint(scene.folder.path / "baseline-b-attempt-2" / "checkpoint_000000")
    assert not first.parent.exists()
    assert scene.known.checkpoint == Path("baseline-b-attempt-2/checkpoint_000000")


def test_an_interruption_leaves_between_two_steps(scene: Scene) -> None:
    scene.tell("on_step_end")
    scene.is_interrupted = True
    with pytest.raises(KeyboardInterrupt):
        scene.tell("on_step_end")
    assert scene.known.status == "running"


def test_tune_can_pickle_what_it_insists_on_pickling(scene: Scene) -> None:
    pickle.dumps(scene.recorder)
    pickle.dumps(Proposals(lambda: None, lambda: True))


def test_proposals_wait_as_long_as_a_running_trial_may_be_lost(tmp_path: Path) -> None:
    specs: list[TrialSpec | None] = [cast("TrialSpec", "first"), None]
    finished = [False, False, True]
    proposals = Proposals(lambda: specs.pop(0), lambda: finished.pop(0))
    assert proposals.suggest("a") == {SPEC: "first"}
    assert proposals.suggest("b") is None  # nothing now
    assert proposals.suggest("c") == Searcher.FINISHED
    proposals.save(str(tmp_path / "state"))
    assert (tmp_path / "state").read_bytes() == b""
