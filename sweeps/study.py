"""Runs a study: data, teacher, baselines, proposed trials; and goes on with one that was interrupted."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from optuna.samplers import BaseSampler
from ray import tune
from ray.tune.experiment import Trial
from rich.console import Console

from hkd import metric_names as names
from hkd.config import DetectorConfig
from hkd.config_io import flatten
from hkd.config_yaml import dump_yaml
from hkd.data.prepare import prepare_data
from hkd.models.cost import Cost, config_cost
from hkd.training.pyramid_cache.capacity import CacheRoom
from hkd.training.teacher import PreparedTeacher
from sweeps.checks import check_device, check_files, check_objectives
from sweeps.console import messages as summary
from sweeps.console.display import Display, TeacherBoard, TrialBoard
from sweeps.execution.cache_settings import describe_cache, find_room
from sweeps.execution.cluster import connected, find_address, trial_resources
from sweeps.execution.gpu_share import describe_usage, share_gpus, summarise_usage
from sweeps.execution.teacher_task import prepare_on_cluster
from sweeps.execution.tune_callback import Recorder
from sweeps.execution.tune_searcher import Proposals
from sweeps.folder import StudyError, StudyFolder
from sweeps.interruption import Interruption
from sweeps.settings.redaction import redacted
from sweeps.settings.resources import Cluster, TrialResources
from sweeps.settings.space import distributions, num_configurations, num_proposals, trial_config
from sweeps.settings.study import StudyConfig
from sweeps.tracking import store as mlflow_store
from sweeps.tracking import tracker as tracking
from sweeps.trials.ledger import Ledger, LedgerTrial, make_sampler
from sweeps.trials.worker import SPEC, DistillationTrial, TrialSpec, WorkPlace

EXIT_FINISHED = 0
EXIT_NOTHING_FINISHED = 1
EXIT_INTERRUPTED = 130


def run_study(study: StudyConfig, *, is_resumed: bool, console: Console, resume_command: str) -> int:
    """Run a study to its end, or go on with it.

    Args:
        is_resumed: Whether to go on with a study of this name, if one was begun.
        resume_command: Told when the study is interrupted.

    Returns:
        The exit code: 0, or 1 where no trial was trained to its end, or 130 where the study was interrupted.

    Raises:
        ValueError: (one of hkd's or sweeps') what is asked for cannot be done. No trial was begun.
    """
    folder = StudyFolder(study)
    folder.check(study)
    display = Display(console)
    check_again = partial(_checked_again, study, folder, display, is_resumed=is_resumed, resume_command=resume_command)
    if folder.study_exists and not is_resumed:
        with folder.locked():
            check_again()
    check_files(study.base, check_images=False)
    address = find_address()
    client = mlflow_store.connect(study.tracking.uri)
    with folder.locked():
        study = check_again()
        uri = study.tracking.uri
        experiment = mlflow_store.find_experiment(client, uri, study.name, study_exists=folder.study_exists)
        open_tracker = partial(tracking.Tracker, client, uri, study.name, experiment)
        tracker = open_tracker() if folder.study_exists else None
        if tracker is not None and not (session := _Session(study, folder, display, tracker)).has_work():
            with Interruption() as interruption, interruption.deferred():
                session.begin(None)
                return session.end()
        display.say("Data: reading; scenes are drawn and images decoded where that was not done before")
        data = prepare_data(study.base.data)
        check_objectives(study, data.validation_annotations)
        with connected(address) as cluster, Interruption() as interruption, display:
            resources = trial_resources(study.resources, cluster)
            check_device(study, resources)
            display.say(summary.describe_cluster(cluster))
            # Before the teacher, which may take hours that an MLflow in no order would waste.
            tracker = tracker or open_tracker()
            teacher = _prepare_teacher(study, cluster, resources, display)
            room = find_room(study, resources)
            if room is not None:
                display.say(describe_cache(room, study.base, resources, len(data.train_annotations.images)))
            resources = share_gpus(study, cluster, resources, None if teacher is None else teacher.path, display)
            with interruption.deferred():
                # Only now, when nothing stands against it: a name is taken by the first trial, not by a mistake.
                folder.write_study(study)
                session = _Session(study, folder, display, tracker)
            return session.run(teacher, room, resources, interruption, resume_command)


def _checked_again(
    study: StudyConfig, folder: StudyFolder, display: Display, *, is_resumed: bool, resume_command: str
) -> StudyConfig:
    """The study to run, checked while it is held: until then another process may have begun one of its name."""
    resolved = folder.check(study)
    if folder.study_exists and not is_resumed:
        raise StudyError(
            summary.describe_existing_study(resolved, folder, _open_ledger(resolved, folder), resume_command)
        )
    if resolved.search.num_trials != study.search.num_trials:
        display.say(
            f"Going on to {resolved.search.num_trials} proposed trials, as asked for before (search.num_trials is now "
            f"{study.search.num_trials})"
        )
    return resolved


def _prepare_teacher(
    study: StudyConfig, cluster: Cluster, resources: TrialResources, display: Display
) -> PreparedTeacher | None:
    base = study.base
    if base.teacher is None:
        return None
    display.say("Teacher: loading, or training where that was not done before")
    # Nothing else runs meanwhile: on this machine alone, the teacher is given all of it.
    num_cpus = cluster.num_cpus if cluster.address is None else resources.num_cpus
    num_gpus = float(resources.num_gpus > 0)
    teacher = prepare_on_cluster(
        base,
        study.storage_path.absolute(),
        WorkPlace(max(resources.num_threads, int(num_cpus)), num_gpus > 0, Path.cwd()),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        on_progress=TeacherBoard(display).update,
    )
    display.say(summary.describe_teacher(summary.summarise_teacher(teacher)))
    return teacher


class _Session:
    """A study from its beginning, or from where the last session was cut off."""

    def __init__(self, study: StudyConfig, folder: StudyFolder, display: Display, tracker: tracking.Tracker) -> None:
        self._study = study
        self._folder = folder
        self._display = display
        self._tracker = tracker
        self._ledger = _open_ledger(study, folder)
        self._again = deque(self._ledger.interrupted())
        """Trials to go on with, before any new one."""
        self._is_exhausted = False
        """Whether the sampler finds no trial that was not run before."""
        self._usage: str | None = None
        """What the trials took, in a sentence, once this session has run some."""
        self._costs: dict[DetectorConfig, Cost] = {}

    def begin(self, teacher: PreparedTeacher | None) -> None:
        """Open the study in MLflow, and bring up to date what is there."""
        tracker = self._tracker
        num_trials = {names.TAG_NUM_TRIALS: str(self._study.search.num_trials)}
        tracker.start_study(summary.study_params(self._study), num_trials, dump_yaml(redacted(self._study)))
        if teacher is not None:
            summary.write_teacher(self._folder.teacher_file, summary.summarise_teacher(teacher))
            settings = flatten(self._study.base).items()
            params = {key: value for key, value in settings if key.startswith(("teacher.", "data."))}
            tracker.log_teacher(params, teacher.cost, teacher.epochs, teacher.metrics)
        self._settle_accounts()

    def run(
        self,
        teacher: PreparedTeacher | None,
        teacher_cache: CacheRoom | None,
        resources: TrialResources,
        interruption: Interruption,
        resume_command: str,
    ) -> int:
        """Run the trials that are left; returns the exit code."""
        place = WorkPlace(resources.num_threads, resources.num_gpus > 0, Path.cwd())
        path = None if teacher is None else teacher.path
        make_spec = partial(TrialSpec, teacher=path, place=place, teacher_cache=teacher_cache)
        try:
            interruption.raise_if_requested()
            self.begin(teacher)
            self._display.say(summary.describe_trials(self._study, resources))
            self._run_trials(make_spec, resources, interruption)
        except KeyboardInterrupt:
            with interruption.deferred():
                return self.interrupted(resume_command)
        except BaseException:
            with interruption.deferred():
                self._mark_cut_off(names.STATUS_FAILED)
            raise
        with interruption.deferred():
            return self.end()

    def end(self) -> int:
        """Tell what was found; returns the exit code."""
        self._tracker.end_study(names.STATUS_FINISHED)
        summary.print_results(self._study, self._folder, self._ledger, self._tracker, self._display, self._usage)
        is_any_finished = any(trial.status == names.STATUS_FINISHED for trial in self._ledger.trials())
        return EXIT_FINISHED if is_any_finished else EXIT_NOTHING_FINISHED

    def interrupted(self, resume_command: str) -> int:
        """Mark what was cut off; returns the exit code."""
        # First, because it is what matters to who is in a hurry.
        trials, running = self._ledger.trials(), self._ledger.interrupted()
        done = len(trials) - len(running)
        self._display.say(f"Interrupted: {done} trials are done, {len(running)} are kept as of their last epoch.")
        self._display.say(f"Go on with:  {resume_command}")
        self._mark_cut_off(names.STATUS_STOPPED)
        return EXIT_INTERRUPTED

    def has_work(self) -> bool:
        """Whether a trial is left to be begun, or to be gone on with."""
        if self._again or self._baselines_left():
            return True
        proposals = num_proposals(self._study.space, self._study.search.num_trials)
        return not self._is_exhausted and self._num_proposed() < proposals

    def _mark_cut_off(self, status: str) -> None:
        """Close in MLflow what still runs, and the study's own run as ``status``."""
        for trial in self._ledger.interrupted():
            if self._tracker.trial_status(trial.trial_id) is not None:
                self._tracker.interrupt_trial(trial.trial_id)
        self._tracker.end_study(status)

    def _run_trials(
        self, make_spec: Callable[..., TrialSpec], resources: TrialResources, interruption: Interruption
    ) -> None:
        study = self._study
        recorder = Recorder(
            self._folder,
            study.objectives,
            self._ledger,
            self._tracker,
            self._board(),
            cost_of=lambda spec: self._cost(spec.config.student),
            again=self._again.append,
            is_interrupted=lambda: interruption.is_requested,
        )
        proposals = Proposals(
            partial(self._next_trial, recorder, make_spec),
            is_finished=lambda: not (recorder.num_running or self.has_work()),
        )
        _quieten_tune()
        tuner = tune.Tuner(
            tune.with_resources(DistillationTrial, {"cpu": resources.num_cpus, "gpu": resources.num_gpus}),
            tune_config=tune.TuneConfig(
                search_alg=proposals,
                num_samples=-1,  # until there are no more proposals
                max_concurrent_trials=resources.max_concurrent,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=lambda trial: trial.config[SPEC].folder_name,
            ),
            run_config=tune.RunConfig(
                name=study.name,
                storage_path=str(study.storage_path.absolute()),
                callbacks=[recorder],
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_frequency=1),
                verbose=0,
            ),
        )
        with interruption.deferred():
            tuner.fit()
        usage = summarise_usage(self._ledger.trials(), recorder.most_at_a_time)
        if usage is not None:
            is_on_gpu = resources.num_gpus > 0 and study.base.training.device != "cpu"
            self._usage = describe_usage(usage, num_threads=resources.num_threads, is_on_gpu=is_on_gpu)

    def _board(self) -> TrialBoard:
        study = self._study
        return TrialBoard(
            self._display,
            total=summary.num_planned_trials(study),
            ended=[trial for trial in self._ledger.trials() if trial.status != names.STATUS_RUNNING],
            epochs_per_trial=study.base.training.total_epochs,
        )

    def _next_trial(self, recorder: Recorder, make_spec: Callable[..., TrialSpec]) -> TrialSpec | None:
        trial = self._begin_next()
        if trial is None:
            return None
        recorder.running(trial)
        return make_spec(
            trial_id=trial.trial_id,
            config=trial_config(self._study.base, trial.params),
            resume_from=self._checkpoint(trial),
            folder_name=self._folder.attempt_folder(trial.trial_id, trial.attempts).name,
        )

    def _begin_next(self) -> LedgerTrial | None:
        """What was interrupted, then the baselines, then what the sampler proposes."""
        if self._again:
            return self._ledger.begin_again(self._again.popleft())
        baselines = self._baselines_left()
        if baselines:
            return self._ledger.begin_baseline(baselines[0], self._study.baselines[baselines[0]])
        if not self.has_work():
            return None
        proposed = self._ledger.begin_proposed()
        if proposed is None:
            self._is_exhausted = True
            self._display.say(f"The space is used up: all it offers are the {self._num_proposed()} trials begun so far")
        return proposed

    def _baselines_left(self) -> list[str]:
        begun = {trial.baseline for trial in self._ledger.trials()}
        return [name for name in self._study.baselines if name not in begun]

    def _num_proposed(self) -> int:
        return sum(trial.role == names.ROLE_TRIAL for trial in self._ledger.trials())

    def _cost(self, student: DetectorConfig) -> Cost:
        if student not in self._costs:
            data = self._study.base.data
            self._costs[student] = config_cost(student, data.image_height, data.image_width)
        return self._costs[student]

    def _checkpoint(self, trial: LedgerTrial) -> Path | None:
        return None if trial.checkpoint is None else self._folder.path / trial.checkpoint

    def _settle_accounts(self) -> None:
        """Write to MLflow what a process told the ledger and then, killed or cut off, not MLflow any more."""
        for trial in self._ledger.trials():
            if trial.status in (names.STATUS_RUNNING, self._tracker.trial_status(trial.trial_id)):
                continue
            config = trial_config(self._study.base, trial.params)
            self._tracker.start_trial(trial, config, self._cost(config.student))
            if trial.metrics:
                self._tracker.log_epoch(trial.trial_id, trial.metrics)
            self._tracker.end_trial(trial, self._checkpoint(trial))


def _open_ledger(study: StudyConfig, folder: StudyFolder) -> Ledger:
    search = study.search

    def sampler(number: int) -> BaseSampler:
        seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
        return make_sampler(search.sampler, seed=seed, startup_trials=search.startup_trials)

    return Ledger(
        folder.journal, study.objectives, distributions(study.space), num_configurations(study.space), sampler
    )


def _quieten_tune() -> None:
    """What Tune tells and writes is told and written by us."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # prints a banner even when it is to be quiet
    os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"
    os.environ["TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S"] = "0"
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # lists failed trials once more


def _trial_name(trial: Trial) -> str:
    return str(trial.config[SPEC].trial_id)
