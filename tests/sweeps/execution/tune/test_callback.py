"""What the recorder writes at each of Tune's callbacks; with doubles of Tune's trials."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from optuna.samplers import RandomSampler
from ray.exceptions import ActorDiedError, NodeDiedError, RayActorError
from ray.exceptions import OutOfMemoryError as RayOutOfMemoryError
from ray.tune import Checkpoint
from ray.tune.experiment import Trial

from hkd.config import TrialConfig
from sweeps.console.display import TrialBoard
from sweeps.execution.tune.callback import MAX_LOST_WORKERS, Recorder, ResultsNotReadError
from sweeps.folder import StudyError, StudyFolder
from sweeps.settings.study import StudyConfig
from sweeps.tracking.tracker import Tracker
from sweeps.trials.error_notes import DISK_FULL_NOTE, NODE_NOTE, RAISED_NOTE, STORAGE_AWAY_NOTE
from sweeps.trials.records.journal import LedgerError
from sweeps.trials.records.ledger import Ledger
from sweeps.trials.records.trial import LedgerTrial
from sweeps.trials.worker import METRICS, SPEC, TrialSpec, WorkerSettings
from tests.sweeps.console.test_display import plain_display
from tests.sweeps.mlflow_double import MlflowDouble
from tests.sweeps.tracking.tracked import flushed

OBJECTIVES = ("mr2_reasonable", "flops")
RAISED = f"Traceback ...\nValueError: boom\n{RAISED_NOTE}"
"""Ray's text of an exception that a trial raised."""


class Scene:
    """A recorder with a real ledger, MLflow's double, and one baseline that is handed to Tune."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = StudyFolder(StudyConfig(name="x", storage_path=tmp_path))
        self.folder.path.mkdir()
        self.ledger = Ledger(self.folder.journal, OBJECTIVES, {}, None, lambda number: RandomSampler(seed=number))
        self.store = MlflowDouble()
        tracker = flushed(Tracker(self.store.client(), "http://host", "x", None))
        tracker.start_study({}, {}, "")
        display, self.out = plain_display()
        self.put_back: list[LedgerTrial] = []
        self.is_interrupted = False
        self.recorder = Recorder(
            self.folder,
            OBJECTIVES,
            self.ledger,
            tracker,
            TrialBoard(display, objectives=OBJECTIVES, total=1, ended=[], epochs_per_trial=2),
            put_back=self.put_back.append,
            is_interrupted=lambda: self.is_interrupted,
        )
        self.hand_over(self.ledger.start_baseline("b", {}))

    def hand_over(self, known: LedgerTrial) -> None:
        self.recorder.expect(known)
        spec = TrialSpec(
            known.trial_id,
            TrialConfig(),
            None,
            None,
            known.trial_id,
            WorkerSettings(1, has_gpu=False, working_directory=Path()),
        )
        self.trial = SimpleNamespace(config={SPEC: spec}, error_file=None)

    def call(self, event: str, **info: Any) -> None:
        """Call the recorder as Tune does: every argument by name."""
        trial = cast("Trial", self.trial)
        getattr(self.recorder, event)(
            iteration=0, trials=[trial], **({} if event == "on_step_end" else {"trial": trial}), **info
        )

    def epoch(self, epoch: int, **metrics: float) -> None:
        reported = {"epoch": epoch, "budget_fraction": epoch / 2, **metrics}
        # Tune adds results, too.
        self.call("on_trial_result", result={METRICS: reported, "pid": 7, "training_iteration": epoch})

    def checkpoint(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text("{}", encoding="utf-8")
        self.call("on_checkpoint", checkpoint=Checkpoint.from_directory(str(folder)))

    def fail(self, tmp_path: Path, text: str) -> None:
        """Let the trial fail with an error whose text is Tune's file."""
        self.trial.error_file = str(tmp_path / "error.txt")
        (tmp_path / "error.txt").write_text(f"Failure # 1 (occurred at 2026-11-28)\n{text}\n", encoding="utf-8")
        self.call("on_trial_error")

    def fail_of(self, trial: SimpleNamespace, tmp_path: Path) -> None:
        """Let another trial than the last started one fail."""
        now, self.trial = self.trial, trial
        self.fail(tmp_path, RAISED)
        self.trial = now

    @property
    def known(self) -> LedgerTrial:
        (trial,) = self.ledger.trials()
        return trial


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_concurrent_trials_are_counted_on_workers(scene: Scene, tmp_path: Path) -> None:
    first = scene.trial
    assert scene.recorder.max_concurrent == 0
    scene.call("on_trial_start")
    scene.hand_over(scene.ledger.start_baseline("c", {}))
    # Handed to Tune, which has no free worker yet.
    assert scene.recorder.max_concurrent == 1
    scene.fail_of(first, tmp_path)
    scene.call("on_trial_start")
    assert scene.recorder.max_concurrent == 1
    scene.hand_over(scene.ledger.start_baseline("d", {}))
    scene.call("on_trial_start")
    assert scene.recorder.max_concurrent == 2


def test_trial_trained_for_all_epochs_is_finished(scene: Scene) -> None:
    scene.call("on_trial_start")
    scene.epoch(1, loss_total=3.0)
    scene.checkpoint(scene.folder.path / "baseline-b" / "checkpoint_000000")
    assert (scene.known.epoch, scene.known.checkpoint) == (1, Path("baseline-b/checkpoint_000000"))
    scene.epoch(2, loss_total=2.0, mr2_reasonable=0.5, flops=100)
    scene.checkpoint(scene.folder.path / "baseline-b" / "checkpoint_000001")
    scene.call("on_trial_complete")
    assert scene.known.status == "finished"
    assert scene.known.metrics["mr2_reasonable"] == 0.5
    run = scene.store.named("baseline-b")
    assert run.status == "FINISHED"
    assert run.steps_of("loss_total") == [1, 2]
    assert "pid" not in {name for name, _, _ in run.history}
    assert run.artifacts == {"metrics.json": "{}"}
    assert scene.recorder.num_running == 0
    assert "baseline-b finished: MR^-2 reasonable 50.0 %" in scene.out.getvalue()


def test_trial_that_ends_early_is_stopped(scene: Scene) -> None:
    scene.call("on_trial_start")
    scene.epoch(1, mr2_reasonable=0.1, flops=100)
    scene.call("on_trial_complete")
    assert scene.known.status == "stopped"
    assert scene.store.named("baseline-b").tags["hkd.status"] == "stopped"


def test_trial_without_value_of_objective_fails(scene: Scene) -> None:
    scene.call("on_trial_start")
    scene.epoch(2, flops=100)
    scene.call("on_trial_complete")
    assert (scene.known.status, scene.known.error) == ("failed", "the trial ended without a value of mr2_reasonable")


def test_trial_that_raises_fails_and_is_not_queued_again(scene: Scene, tmp_path: Path) -> None:
    scene.call("on_trial_start")
    scene.fail(tmp_path, RAISED)
    assert scene.known.status == "failed"
    assert scene.known.error == "Traceback ...\nValueError: boom"
    assert scene.put_back == []
    run = scene.store.named("baseline-b")
    assert (run.status, run.tags["hkd.error"]) == ("FAILED", "ValueError: boom")
    assert "baseline-b failed: ValueError: boom" in scene.out.getvalue()


def test_trial_is_queued_again_three_times_after_lost_worker(scene: Scene, tmp_path: Path) -> None:
    scene.call("on_trial_start")
    scene.epoch(1)
    scene.checkpoint(scene.folder.path / "baseline-b" / "checkpoint_000000")
    for loss in range(1, MAX_LOST_WORKERS + 1):
        scene.fail(tmp_path, "The actor died unexpectedly")
        assert scene.known.status == "running"
        assert len(scene.put_back) == loss
        assert scene.recorder.num_running == 0
        scene.hand_over(scene.ledger.restart(scene.put_back[-1]))
        assert scene.known.checkpoint == Path("baseline-b/checkpoint_000000")
    scene.fail(tmp_path, "The actor died unexpectedly")
    assert scene.known.status == "failed"
    assert scene.known.error == "The actor died unexpectedly"
    assert len(scene.put_back) == MAX_LOST_WORKERS


def test_lost_workers_are_counted_from_the_last_checkpoint(scene: Scene, tmp_path: Path) -> None:
    """A long trial on spot instances loses more workers than one that never finishes an epoch may."""
    for epoch in range(1, MAX_LOST_WORKERS + 2):
        scene.call("on_trial_start")
        scene.epoch(epoch)
        scene.checkpoint(scene.folder.path / f"baseline-b-attempt-{epoch}" / "checkpoint_000000")
        scene.fail(tmp_path, "The node died")
        assert scene.known.status == "running"
        scene.hand_over(scene.ledger.restart(scene.put_back[-1]))
    assert "(1 of 3)" in scene.out.getvalue()
    assert "(2 of 3)" not in scene.out.getvalue()


def test_trial_survives_a_storage_that_is_away_for_any_time(scene: Scene, tmp_path: Path) -> None:
    for _ in range(MAX_LOST_WORKERS + 2):
        scene.call("on_trial_start")
        scene.fail(tmp_path, f"Traceback ...\nStorageAwayError: no answer\n{STORAGE_AWAY_NOTE}")
        assert scene.known.status == "running"
        assert scene.recorder.num_running == 0
        scene.hand_over(scene.ledger.restart(scene.put_back[-1]))
    assert "baseline-b: queued again: no answer" in scene.out.getvalue()


def test_node_without_the_files_ends_the_study_after_some_attempts_and_fails_no_trial(
    scene: Scene, tmp_path: Path
) -> None:
    text = f"Traceback ...\nsweeps.trials.node_files.NodeError: node b has no /data\n{NODE_NOTE}"
    for number in range(1, MAX_LOST_WORKERS + 1):
        scene.call("on_trial_start")
        scene.fail(tmp_path, text)
        assert f"queued again ({number} of {MAX_LOST_WORKERS}): node b has no /data\n" in scene.out.getvalue()
        scene.recorder.on_step_end(iteration=0, trials=[])
        scene.hand_over(scene.ledger.restart(scene.put_back[-1]))
    scene.fail(tmp_path, text)
    with pytest.raises(StudyError, match=r"baseline-b .* node b has no /data; .*--resume"):
        scene.recorder.on_step_end(iteration=0, trials=[])
    assert scene.known.status == "running"
    assert len(scene.put_back) == MAX_LOST_WORKERS


@pytest.mark.parametrize(
    "error",
    [
        RayActorError(),
        ActorDiedError(),
        RayOutOfMemoryError("used 95 % of memory"),  # type: ignore[no-untyped-call]
        NodeDiedError("node died"),  # type: ignore[no-untyped-call]
    ],
)
def test_trial_is_queued_again_after_any_error_of_lost_worker(scene: Scene, tmp_path: Path, error: Exception) -> None:
    scene.call("on_trial_start")
    scene.fail(tmp_path, str(error))
    assert scene.known.status == "running"
    assert len(scene.put_back) == 1


def test_each_lost_worker_is_printed_with_its_reason(scene: Scene, tmp_path: Path) -> None:
    for text in ("The actor died unexpectedly.\n\tpid: 7", "The node is in trouble"):
        scene.call("on_trial_start")
        scene.fail(tmp_path, text)
        scene.hand_over(scene.ledger.restart(scene.put_back[-1]))
    scene.fail(tmp_path, RAISED)
    lost = [line.strip() for line in scene.out.getvalue().splitlines() if "worker lost" in line]
    assert lost == [
        "baseline-b: worker lost (The actor died unexpectedly); queued again (1 of 3)",
        "baseline-b: worker lost (The node is in trouble); queued again (2 of 3)",
    ]


def test_error_file_that_another_user_replaced_is_not_read(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("SECRET", encoding="utf-8")
    (tmp_path / "error.txt").symlink_to(tmp_path / "secret")
    scene.trial.error_file = str(tmp_path / "error.txt")
    scene.call("on_trial_start")
    for _ in range(MAX_LOST_WORKERS + 1):
        scene.call("on_trial_error")
        if scene.put_back and scene.known.status == "running":
            scene.hand_over(scene.ledger.restart(scene.put_back[-1]))
    assert scene.known.error == "Ray Tune reported no error message"
    assert "SECRET" not in scene.out.getvalue()


def test_tune_ends_before_it_reads_results_unless_it_raised(scene: Scene) -> None:
    with pytest.raises(ResultsNotReadError):
        scene.recorder.on_experiment_end(trials=[])
    try:
        raise ValueError("of Tune's loop")
    except ValueError:
        scene.recorder.on_experiment_end(trials=[])


def test_two_checkpoints_of_running_trial_and_one_of_ended_trial_are_kept(scene: Scene) -> None:
    scene.call("on_trial_start")
    scene.epoch(1)
    first = scene.folder.path / "baseline-b" / "checkpoint_000000"
    scene.checkpoint(first)
    scene.hand_over(scene.ledger.restart(scene.known))
    scene.call("on_trial_start")
    attempt = scene.folder.path / "baseline-b-attempt-2"
    scene.epoch(2)
    scene.checkpoint(attempt / "checkpoint_000000")
    assert first.is_dir()
    assert scene.known.checkpoint == Path("baseline-b-attempt-2/checkpoint_000000")
    scene.epoch(3)
    scene.checkpoint(attempt / "checkpoint_000001")
    assert not first.parent.exists()
    assert len(list(attempt.iterdir())) == 2
    scene.call("on_trial_complete")
    assert [path.name for path in attempt.iterdir()] == ["checkpoint_000001"]


def fail_often(scene: Scene, tmp_path: Path, texts: list[str]) -> None:
    for index, text in enumerate(texts):
        if index:
            scene.hand_over(scene.ledger.start_baseline(f"b{index}", {}))
        scene.call("on_trial_start")
        scene.fail(tmp_path, f"Traceback\n{text}\n{RAISED_NOTE}")


def test_study_whose_first_trials_fail_with_one_error_is_stopped(scene: Scene, tmp_path: Path) -> None:
    fail_often(scene, tmp_path, [f"OSError: no /data of trial-00{index}" for index in range(4)])
    scene.call("on_step_end")
    scene.hand_over(scene.ledger.start_baseline("last", {}))
    scene.call("on_trial_start")
    scene.fail(tmp_path, f"OSError: no /data of trial-009\n{RAISED_NOTE}")
    with pytest.raises(StudyError, match=r"OSError: no /data of trial-009.*--resume"):
        scene.call("on_step_end")


def test_study_with_different_errors_or_a_finished_trial_continues(scene: Scene, tmp_path: Path) -> None:
    fail_often(scene, tmp_path, [f"OSError: {'ab'[index % 2]}" for index in range(6)])
    scene.call("on_step_end")
    scene.hand_over(scene.ledger.start_baseline("good", {}))
    scene.call("on_trial_start")
    scene.epoch(2, mr2_reasonable=0.5, flops=100)
    scene.call("on_trial_complete")
    scene.hand_over(scene.ledger.start_baseline("c", {}))
    for index in range(7):
        scene.call("on_trial_start")
        scene.fail(tmp_path, f"OSError: same\n{RAISED_NOTE}")
        scene.hand_over(scene.ledger.start_baseline(f"c{index}", {}))
    scene.call("on_step_end")


def test_full_disk_ends_the_study_and_not_the_trial(scene: Scene, tmp_path: Path) -> None:
    scene.call("on_trial_start")
    scene.fail(tmp_path, f"OSError: [Errno 28] No space left on device\n{DISK_FULL_NOTE}\n{RAISED_NOTE}")
    with pytest.raises(StudyError, match=rf"{scene.folder.path} is full.*--resume"):
        scene.call("on_step_end")
    assert scene.known.status == "running"
    assert scene.put_back == []


def test_unwritable_journal_ends_the_study_between_two_steps(scene: Scene) -> None:
    scene.call("on_trial_start")
    scene.folder.journal.unlink()
    with pytest.raises(LedgerError):  # which Tune takes for an error of the trial
        scene.epoch(1)
    with pytest.raises(LedgerError, match="--resume"):
        scene.call("on_step_end")


def test_interruption_is_raised_between_two_steps(scene: Scene) -> None:
    scene.call("on_step_end")
    scene.is_interrupted = True
    with pytest.raises(KeyboardInterrupt):
        scene.call("on_step_end")
    assert scene.known.status == "running"


def test_recorder_can_be_pickled(scene: Scene) -> None:
    pickle.dumps(scene.recorder)
