"""How a study is started, interrupted and resumed; with doubles of Ray Tune and of MLflow."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from hkd.config import LatencyConfig
from sweeps import ready_latency as latency_module
from sweeps import session as session_module
from sweeps import study as study_module
from sweeps.folder import StudyError, StudyFolder
from sweeps.settings.study import StudyConfig, TrackingConfig
from sweeps.tracking import store as mlflow_store
from sweeps.tracking.store import TrackingError, connect
from sweeps.trials.latency.shapes import detectors_to_measure
from sweeps.trials.records import ledger as ledger_module
from sweeps.trials.records.journal import Journal
from sweeps.trials.records.ledger import open_ledger
from sweeps.trials.records.trial import GivenResult
from sweeps.trials.warm_start import WarmStart
from sweeps.trials.worker import METRICS
from tests.sweeps.study_doubles import EPOCH, Place, TuneDouble
from tests.sweeps.trials.latency.measured import write_table


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_study_interrupted_before_first_trial_can_be_resumed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study = StudyFolder.write_study

    def write_and_interrupt(folder: StudyFolder, study: StudyConfig) -> None:
        interrupt()
        write_study(folder, study)

    monkeypatch.setattr(StudyFolder, "write_study", write_and_interrupt)
    place.trials = lambda _: pytest.fail("a trial was run")
    assert place.run() == 130
    assert "Resume with:  THE COMMAND" in place.out.getvalue()
    assert place.folder.study_exists
    assert "running" not in {tag for tag, _ in place.status.values()}


def test_interruption_while_opening_mlflow_completes_that_write(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    log_text, is_interrupted = place.store.log_text, threading.Event()

    def slow(*arguments: Any) -> None:
        assert is_interrupted.wait(60)
        log_text(*arguments)

    def interrupt_study(*_: object) -> None:
        is_interrupted.set()
        interrupt()

    monkeypatch.setattr(place.store, "log_text", slow)
    monkeypatch.setattr(session_module, "write_missing_ends", interrupt_study)
    assert place.run() == 130
    assert "Resume with:  THE COMMAND" in place.out.getvalue()
    assert place.status == {"x": ("stopped", "KILLED")}
    # The write in progress was completed.
    assert "study.yaml" in place.store.named("x").artifacts


def test_second_signal_is_raised_after_all_runs_are_closed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def trials(tune: TuneDouble) -> None:
        tune.start_one()
        tune.start_one()
        interrupt()

    set_terminated = place.store.set_terminated

    def interrupt_again(run_id: str, status: str) -> None:
        if place.store.runs[run_id].name == "baseline-b":
            interrupt()
        set_terminated(run_id, status)

    place.trials = trials
    monkeypatch.setattr(place.store, "set_terminated", interrupt_again)
    assert place.run() == 130
    interrupted = dict.fromkeys(("baseline-b", "trial-001"), ("running", "KILLED"))
    assert place.status == {"x": ("stopped", "KILLED"), **interrupted}
    assert "0 trials ended, 2 resume" in place.out.getvalue()


def test_crash_leaves_no_run_open(place: Place) -> None:
    def trials(tune: TuneDouble) -> None:
        tune.start_one()
        raise RuntimeError("ours")

    place.trials = trials
    with pytest.raises(RuntimeError, match="ours"):
        place.run()
    assert place.status == {"x": ("failed", "FAILED"), "baseline-b": ("running", "KILLED")}


def test_study_that_fails_a_check_leaves_its_name_free(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.trials = lambda _: pytest.fail("a trial was run")

    def refuse(*_: object) -> None:
        raise StudyError("refused")

    for check in ("check_objectives", "check_device", "ready_teacher"):
        with monkeypatch.context() as patched:
            patched.setattr(study_module, check, refuse)
            with pytest.raises(StudyError, match="refused"):
                place.run()
        assert not place.folder.path.exists(), check


def test_mistakes_are_reported_before_latencies_are_measured(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(study: StudyConfig, out: Path) -> None:
        place.order.append("latency")
        data = study.base.data
        write_table(out, detectors_to_measure(study), data.image_height, data.image_width)

    def refuse(*_: object) -> None:
        raise StudyError("refused")

    monkeypatch.setattr(latency_module, "measure_detectors", measure)
    evaluation = place.study.base.evaluation.model_copy(update={"latency": LatencyConfig()})
    base = place.study.base.model_copy(update={"evaluation": evaluation})
    place.study = place.study.model_copy(update={"base": base})
    with pytest.raises(StudyError, match="there is no study"):
        place.run(warm_start="absent")
    with pytest.raises(StudyError, match="--num-trials 2"):
        place.run(num_trials=1, enqueued=[{"training.seed": 1}, {"training.seed": 2}])
    for check in ("find_address", "check_objectives", "check_test_images", "connected", "check_device"):
        with monkeypatch.context() as patched:
            patched.setattr(study_module, check, refuse)
            with pytest.raises(StudyError, match="refused"):
                place.run()
    usable = place.study
    with monkeypatch.context() as patched:
        patched.setattr(mlflow_store, "connect", connect)
        place.study = usable.model_copy(update={"tracking": TrackingConfig(uri="sqlite:////proc/absent.db")})
        with pytest.raises(TrackingError, match=r"/proc/absent\.db"):
            place.run()
    assert place.order == []
    assert not place.folder.path.exists()
    place.study = usable
    place.trials = TuneDouble.finish_all
    assert place.run() == 0
    assert place.order == ["latency", "teacher"]


def test_end_that_mlflow_lacks_is_written_on_resume(place: Place) -> None:
    place.trials = TuneDouble.finish_all
    place.run()
    # As if the process had been killed after the ledger was written.
    place.store.named("trial-001").tags["hkd.status"] = "running"
    place.run(is_resumed=True)
    assert place.status["trial-001"] == ("finished", "FINISHED")


def test_study_in_mlflow_has_no_password(place: Place) -> None:
    uri = "http://me:SECRET@host"
    place.study = place.study.model_copy(update={"tracking": TrackingConfig(uri=uri)})
    place.trials = TuneDouble.finish_all
    place.run()
    written = place.store.named("x").artifacts["study.yaml"]
    assert "http://***@host" in written
    assert "SECRET" not in written


def test_trial_that_lost_its_worker_is_finished_in_the_same_session(place: Place) -> None:
    def lose_first_worker(tune: TuneDouble) -> None:
        trial = tune.start_one()
        assert trial is not None
        trial.error_file = None  # type: ignore[misc]
        tune.recorder.on_trial_error(iteration=0, trials=[trial], trial=trial)
        tune.finish_all()

    place.trials = lose_first_worker
    assert place.run() == 0
    assert set(place.status.values()) == {("finished", "FINISHED")}


def test_study_resumes_with_largest_requested_number_of_trials(place: Place) -> None:
    place.trials = TuneDouble.start_one
    assert place.run(num_trials=1) == 1  # nothing finished
    place.trials = TuneDouble.finish_all
    assert place.run(is_resumed=True, num_trials=2) == 0
    assert place.run(is_resumed=True, num_trials=1) == 0
    assert "Resuming with 2 proposed trials, as requested before (search.num_trials is now 1)" in place.out.getvalue()
    assert "num_trials: 2" in place.folder.config_file.read_text(encoding="utf-8")
    assert sorted(place.status) == ["baseline-b", "trial-001", "trial-002", "x"]
    with pytest.raises(StudyError, match=r"is finished \(3 trials\).*--num-trials 4"):
        place.run(num_trials=1)


def test_study_with_exhausted_space_is_finished(place: Place) -> None:
    place.trials = TuneDouble.finish_all
    # The space holds two trials.
    assert place.run(num_trials=50) == 0
    assert "1 baselines and 2 proposed by front" in place.out.getvalue()
    # Resuming it prepares neither data nor cluster.
    assert place.run(is_resumed=True, num_trials=50) == 0
    assert place.order == ["teacher"]
    with pytest.raises(StudyError, match=r"is finished \(3 trials\).*search space has no other configurations"):
        place.run(num_trials=50)


def test_study_started_by_another_process_before_lock_is_rejected(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = place.study.model_copy(update={"objectives": ("mr2_all", "flops")})
    locked = StudyFolder.locked

    def locked_after_other(folder: StudyFolder) -> AbstractContextManager[None]:
        folder.write_study(other)
        return locked(folder)

    monkeypatch.setattr(StudyFolder, "locked", locked_after_other)
    with pytest.raises(StudyError, match='a study named "x" exists'):
        place.run()
    assert place.order == []


def test_study_is_locked_while_it_is_checked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_second(_: str) -> object:
        with pytest.raises(StudyError, match="another process"):
            place.run()
        return place.store.client()

    monkeypatch.setattr(mlflow_store, "connect", run_second)
    place.trials = TuneDouble.finish_all
    assert place.run() == 0


@pytest.mark.parametrize(
    "trials", [TuneDouble.finish_all, TuneDouble.start_one], ids=["nothing left", "interrupted trial left"]
)
def test_session_opens_journal_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, trials: Callable[[TuneDouble], object]
) -> None:
    opened: list[str] = []

    class CountedJournal(Journal):
        def __init__(self, path: Path) -> None:
            opened.append(str(path))
            super().__init__(path)

    monkeypatch.setattr(ledger_module, "Journal", CountedJournal)
    place.trials = trials
    place.run()
    assert opened == [str(place.folder.journal)]
    place.trials = TuneDouble.finish_all
    assert place.run(is_resumed=True) == 0
    assert opened == [str(place.folder.journal)] * 2


def test_writes_rejected_by_mlflow_are_printed_at_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks_a_library(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'boto3'")

    monkeypatch.setattr(place.store, "log_text", lacks_a_library)
    place.trials = TuneDouble.finish_all
    assert place.run() == 0
    assert "rejected by MLflow: 1 (No module named 'boto3')" in place.out.getvalue()


def test_closing_table_shows_objectives_of_study(place: Place) -> None:
    place.study = place.study.model_copy(update={"objectives": ("mr2_all", "num_params")})
    place.trials = TuneDouble.finish_all
    assert place.run() == 0
    _, heading = (line for line in place.out.getvalue().splitlines() if "parameters (M)" in line)
    assert [column.strip() for column in heading.split("  ") if column.strip()] == ["MR^-2 all (%)", "parameters (M)"]
    # All trials are equal: none dominates another.
    for trial_id in ("baseline-b", "trial-001", "trial-002"):
        assert re.search(rf"^ +{trial_id} +75\.0 +0\.00 *$", place.out.getvalue(), re.MULTILINE)


def test_winners_are_confirmed_with_other_seeds(place: Place) -> None:
    place.trials = TuneDouble.finish_all
    assert place.run(confirm_seeds=2) == 0
    out = place.out.getvalue()
    # All trials are equal: two trials on the front and a baseline, each with two seeds.
    assert "trained again with 2 other seeds and evaluated on the validation images" in out
    assert "6 trainings" in out
    assert "(9 of 9" in out
    assert re.search(r"^ *trial-001 \* +50\.0 +50\.0 ± 0\.0 +0\.00 +0\.00 *$", out, re.MULTILINE)
    assert {
        run.tags.get("hkd.confirms") for run in place.store.runs.values() if run.tags["hkd.role"] == "confirmation"
    } == {
        "baseline-b",
        "trial-001",
        "trial-002",
    }
    confirmed = place.store.named("trial-001")
    assert ("confirmed_mr2_reasonable", 1, 0.5) in confirmed.history
    assert ("confirmed_seeds", 1, 2) in confirmed.history
    parent = place.store.named("x")
    assert parent.tags["hkd.confirmed_on"] == "validation"
    assert len(json.loads(parent.artifacts["confirmation.json"])["trials"]) == 3
    # Resuming it finds nothing to do, and logs nothing twice.
    assert place.run(is_resumed=True) == 0
    assert confirmed.steps_of("confirmed_seeds") == [1]


def test_finished_study_is_confirmed_later(place: Place) -> None:
    place.trials = TuneDouble.finish_all
    assert place.run() == 0
    assert "The option --confirm" in place.out.getvalue()
    place.trials = TuneDouble.start_one
    place.run(is_resumed=True, confirm_seeds=1)
    assert place.store.named("baseline-b-seed-1").tags["hkd.status"] == "running"
    place.trials = TuneDouble.finish_all
    # As last requested.
    assert place.run(is_resumed=True) == 0
    confirmations = sorted(name for name in place.status if "-seed-" in name)
    # The seeds of the base and of the two trials are 0, 1 and 2: each is trained again with the next.
    assert confirmations[0] == "baseline-b-seed-1"
    assert sorted(name.rpartition("-")[2] for name in confirmations) == ["1", "2", "3"]
    assert {place.status[name] for name in confirmations} == {("finished", "FINISHED")}


def test_study_ends_with_its_time_budget(place: Place) -> None:
    def until_the_end_of_time(tune: TuneDouble) -> None:
        trial = tune.start_one()
        assert trial is not None
        tune.recorder.on_trial_result(iteration=0, trials=[trial], trial=trial, result={METRICS: EPOCH})
        tune.recorder.on_trial_complete(iteration=0, trials=[trial], trial=trial)
        tune.start_one()
        while True:
            time.sleep(0.01)

    place.trials = until_the_end_of_time
    assert place.run(time_budget_seconds=5.0) == 0
    out = place.out.getvalue()
    assert "Time budget used up: 1 trials ended, 1 resume" in out
    assert "Resume with:  THE COMMAND" in out
    assert "Front" in out
    assert place.status["trial-001"] == ("running", "KILLED")
    place.trials = TuneDouble.finish_all
    assert place.run(is_resumed=True) == 0
    assert set(place.status.values()) == {("finished", "FINISHED")}


def test_enqueued_settings_need_room(place: Place) -> None:
    place.trials = TuneDouble.finish_all
    enqueued = [{"training.seed": 2}, {"training.seed": 1}]
    with pytest.raises(StudyError, match=r"--enqueue: 2 settings.*proposes 1 trials.*--num-trials 2"):
        place.run(num_trials=1, enqueued=enqueued)
    assert not place.folder.path.exists()
    assert place.run(enqueued=enqueued) == 0
    trials = open_ledger(place.study, place.folder.journal).trials()
    assert [trial.params for trial in trials] == [{}, *enqueued]


def test_warm_started_study_resumes_without_the_other_study(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    result = GivenResult("other/trial-001", {"training.seed": 2}, [0.5] * len(place.study.objectives))
    monkeypatch.setattr(study_module, "find_warm_start", lambda _: WarmStart("other", (result,), Counter(), None))
    place.trials = TuneDouble.finish_all
    assert place.run(num_trials=1, warm_start="other") == 0

    def refuse(_: object) -> None:
        raise StudyError("there is no study other")

    monkeypatch.setattr(study_module, "find_warm_start", refuse)
    assert place.run(is_resumed=True, num_trials=1, warm_start="other") == 0
    # The result is no trial of this study.
    assert [trial.params for trial in open_ledger(place.study, place.folder.journal).trials()] == [
        {},
        {"training.seed": 1},
    ]


def test_study_describes_its_run_unless_a_user_did(place: Place) -> None:
    place.trials = TuneDouble.finish_all
    place.run()
    parent = place.store.named("x")
    note = parent.tags["mlflow.note.content"]
    assert note.startswith("**Study x**")
    assert "Trials and baselines: 3 finished" in note
    assert "| trial-001 | 50.0 | 0.00 | 0.00 |" in note
    assert parent.steps_of("best_mr2_reasonable") == [1, 2, 3]
    parent.tags["mlflow.note.content"] = "The one that we shipped."
    place.run(is_resumed=True, num_trials=2)
    assert parent.tags["mlflow.note.content"] == "The one that we shipped."
