"""Runs the queued trials of a study with Ray Tune."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ray import tune
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial

from hkd.training.pyramid_cache.capacity import CacheBudget
from sweeps.execution.tune.callback import Recorder, ResultsNotReadError
from sweeps.execution.tune.early_stopping import StudyStopping
from sweeps.execution.tune.exhausted_memory import exhausted_memory_loses_worker
from sweeps.execution.tune.searcher import QueueSearcher
from sweeps.folder import StudyFolder
from sweeps.interruption import Interruption
from sweeps.settings.resources import TrialResources
from sweeps.settings.space import trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost
from sweeps.trials.node_files import SharedFiles
from sweeps.trials.queue import TrialQueue
from sweeps.trials.records.trial import LedgerTrial
from sweeps.trials.worker import SPEC, DistillationTrial, TrialSpec, WorkerSettings

_NEVER = str(10 * 365 * 86_400)
"""Seconds between Tune's records of its state: nothing reads it, and it grows with the number of trials."""


@dataclass(frozen=True)
class TrialInputs:
    """What all trials of a study share."""

    teacher_file: Path | None
    """Weights of the study's teacher; None without one."""
    teacher_cache: CacheBudget | None
    resources: TrialResources
    labels_file: Path | None = None
    """The teacher's labels of the unlabelled images; None without any."""
    shared: SharedFiles | None = None
    """What the nodes of trials must see as the driver does; None on a cluster of one machine."""


def run_trials(
    study: StudyConfig,
    folder: StudyFolder,
    queue: TrialQueue,
    recorder: Recorder,
    inputs: TrialInputs,
    interruption: Interruption,
    trainable: type[tune.Trainable] = DistillationTrial,
    stopping: StudyStopping | None = None,
    *,
    reuses_workers: bool = True,
) -> None:
    """Run trials until the queue is empty and the last one has ended.

    Args:
        trainable: Runs the specification of a trial, as :class:`DistillationTrial` does.
        stopping: Stops trials early; None stops none.
        reuses_workers: Whether a worker runs one trial after the other, with images and teacher in memory; Tune
            ends the worker of a trial that failed. False starts a worker for each trial, to measure what that costs.

    Raises:
        KeyboardInterrupt: the study was interrupted. Checkpoints and ledger are complete.
    """

    def next_spec() -> TrialSpec | None:
        trial = queue.next()
        if trial is None:
            return None
        recorder.expect(trial)
        spec = _spec(study, folder, trial, inputs)
        if stopping is not None:
            stopping.expect(trial, spec.config)
        return spec

    searcher = QueueSearcher(next_spec, is_finished=lambda: queue.is_empty and not recorder.num_running)
    _silence_tune()
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = _NEVER
    keep_credentials_from_tune()
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": inputs.resources.num_cpus, "gpu": inputs.resources.num_gpus}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=None if stopping is None else stopping.scheduler,
            num_samples=-1,  # until the searcher is finished
            max_concurrent_trials=inputs.resources.max_concurrent,
            reuse_actors=reuses_workers,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_folder_name,
        ),
        run_config=tune.RunConfig(
            name=study.name,
            storage_path=str(study.storage_folder),
            callbacks=[recorder],
            # The recorder removes earlier checkpoints: with num_to_keep, Tune writes the state of all trials, which is
            # never read, after every epoch of every trial.
            checkpoint_config=tune.CheckpointConfig(num_to_keep=None, checkpoint_frequency=1),
            verbose=0,
        ),
    )
    with interruption.deferred(), exhausted_memory_loses_worker(), suppress(ResultsNotReadError):
        tuner.fit()


def _spec(study: StudyConfig, folder: StudyFolder, trial: LedgerTrial, inputs: TrialInputs) -> TrialSpec:
    resources = inputs.resources
    config = trial_config(study.base, trial.params)
    return TrialSpec(
        trial_id=trial.trial_id,
        config=config,
        teacher=inputs.teacher_file,
        resume_from=None if trial.checkpoint is None else folder.path / trial.checkpoint,
        folder_name=folder.attempt_folder(trial.trial_id, trial.attempts).name,
        worker=WorkerSettings(resources.num_threads, resources.num_gpus > 0, Path.cwd(), folder.storage, inputs.shared),
        teacher_cache=inputs.teacher_cache,
        labels=inputs.labels_file,
        is_tested=trial.test_images is not None,
        resume_otherwise_from=None if trial.earlier_checkpoint is None else folder.path / trial.earlier_checkpoint,
        rungs=() if trial.confirms is not None else study.rungs,
        costs=student_cost(config).as_metrics(),
        uploads_to=None if folder.storage is None else folder.attempt_folder(trial.trial_id, trial.attempts),
        shared_file=None if inputs.shared is None or folder.storage is not None else folder.config_file,
    )


def keep_credentials_from_tune() -> None:
    """Keep Tune from copying AWS credentials of this process to trials.

    Ray would write them to its log and, as a worker starts, have them in its arguments, which every user of the machine
    can read. A local cluster's processes inherit the environment in any case; on another one, which stores a study in a
    bucket, each node has credentials of its own.
    """
    class_cache.ENV_VARS_TO_PROPAGATE = {
        name for name in class_cache.ENV_VARS_TO_PROPAGATE if not name.startswith("AWS_")
    }


def _silence_tune() -> None:
    """Results, failures and progress are printed and recorded by the study itself."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # prints a banner even at verbose=0
    os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # lists failed trials a second time


def _trial_name(trial: Trial) -> str:
    return str(trial.config[SPEC].trial_id)


def _folder_name(trial: Trial) -> str:
    return str(trial.config[SPEC].folder_name)
