"""One session of a study: runs the trials that are left, and records and prints how they ended."""

from __future__ import annotations

from hkd import metric_names as names
from hkd.config_files.parsing import flatten
from hkd.config_files.yaml_format import dump_yaml
from sweeps.console import messages
from sweeps.console.description import describe_study
from sweeps.console.display import Display, TrialBoard
from sweeps.console.findings import PassedTeacher
from sweeps.console.usage import describe_usage, summarise_usage
from sweeps.execution.cluster.waiting import Waiting
from sweeps.execution.tune.callback import Recorder
from sweeps.execution.tune.early_stopping import StudyStopping
from sweeps.execution.tune.run import TrialInputs, run_trials
from sweeps.folder import StudyFolder
from sweeps.interruption import Interruption
from sweeps.ready_teacher import ReadyTeacher
from sweeps.settings.redaction import redacted
from sweeps.settings.study import StudyConfig
from sweeps.tracking.origin import Origin
from sweeps.tracking.reconciliation import close_runs, write_missing_ends
from sweeps.tracking.study_params import study_params
from sweeps.tracking.tracker import Tracker
from sweeps.trials.confirmation import Confirmation, confirmation_of
from sweeps.trials.front import reference_point
from sweeps.trials.queue import TrialQueue
from sweeps.trials.records.teacher import read_teacher, write_teacher

EXIT_FINISHED = 0
EXIT_NOTHING_FINISHED = 1
EXIT_INTERRUPTED = 130


class Session:
    """One session of a study, from its first trial or from where the previous session ended."""

    def __init__(
        self,
        study: StudyConfig,
        folder: StudyFolder,
        display: Display,
        queue: TrialQueue,
        tracker: Tracker,
        *,
        num_test_images: int | None = None,
        origin: Origin | None = None,
    ) -> None:
        self._study = study
        self._origin = origin
        self._folder = folder
        self._display = display
        self._ledger = queue.ledger
        self._queue = queue
        self._tracker = tracker
        self._num_test_images = num_test_images

    def run(
        self,
        teacher: ReadyTeacher | None,
        inputs: TrialInputs,
        interruption: Interruption,
        resume_command: str,
        waiting: Waiting | None,
    ) -> int:
        """Run the trials that are left; returns the exit code."""
        try:
            interruption.raise_if_requested()
            self._open(teacher)
            self._display.print_line(messages.describe_trials(self._study, inputs.resources))
            usage = self._run_trials(inputs, interruption, waiting)
        except KeyboardInterrupt:
            with interruption.deferred():
                reason = "Time budget used up" if interruption.is_time_over else "Interrupted"
                code = self.interrupt(reason, resume_command)
                return self._print_results(None) if interruption.is_time_over else code
        except BaseException:
            with interruption.deferred():
                close_runs(self._ledger, self._tracker, names.STATUS_FAILED)
            raise
        with interruption.deferred():
            return self._finish(usage)

    def report_finished_study(self) -> int:
        """Bring MLflow up to date and print the results of a finished study; returns the exit code."""
        self._open(None)
        return self._finish(None)

    def _open(self, ready: ReadyTeacher | None) -> None:
        """Open the study's run in MLflow and bring it up to date."""
        study, tracker = self._study, self._tracker
        num_trials = {names.TAG_NUM_TRIALS: str(study.search.num_trials)}
        tracker.start_study(study_params(study), num_trials, dump_yaml(redacted(study)), self._origin)
        tracker.describe(describe_study(study, self._ledger.trials()))
        if ready is not None:
            teacher = ready.teacher
            of_labels = {} if ready.labels is None else ready.labels.summary.as_metrics()
            write_teacher(self._folder.teacher_file, ready.record)
            settings = flatten(study.base).items()
            params = {key: value for key, value in settings if key.startswith(("teacher.", "data."))}
            metrics = {**teacher.metrics, **of_labels}
            tracker.log_teacher(
                params, teacher.cost, teacher.epochs, metrics, teacher.weights_origin, teacher.detections
            )
        write_missing_ends(study, self._folder.path, self._ledger, tracker)
        tracker.follow_front(study.objectives, reference_point(study), self._ledger.trials())

    def _finish(self, usage: str | None) -> int:
        """Close the study's run and print the results; returns the exit code.

        Args:
            usage: One line on the memory and time that trials used, where this session ran some.
        """
        confirmation = self._confirmation()
        if confirmation is not None:
            teacher = read_teacher(self._folder.teacher_file)
            on_test = {} if teacher is None else teacher.on_test_images
            self._tracker.log_confirmation(confirmation, on_test)
        self._tracker.describe(describe_study(self._study, self._ledger.trials()))
        self._tracker.end_study(
            names.STATUS_FINISHED,
            on_wait=lambda count: self._display.show_progress(f"MLflow: {count} writes pending"),
        )
        return self._print_results(usage)

    def _confirmation(self) -> Confirmation | None:
        ledger = self._ledger
        test_images = self._queue.test_images
        return confirmation_of(ledger.trials(), ledger.confirmations(), self._study.objectives, test_images)

    def _print_results(self, usage: str | None) -> int:
        """Print the results so far; returns the exit code."""
        messages.print_results(
            self._study,
            self._folder,
            self._ledger,
            self._tracker,
            self._display,
            usage,
            confirmation=self._confirmation(),
        )
        is_any_finished = any(trial.status == names.STATUS_FINISHED for trial in self._ledger.trials())
        return EXIT_FINISHED if is_any_finished else EXIT_NOTHING_FINISHED

    def interrupt(self, reason: str, resume_command: str) -> int:
        """Print how to resume the study, and close its runs; returns the exit code."""
        # Printed first: the user may not wait for MLflow.
        trials, running = (*self._ledger.trials(), *self._ledger.confirmations()), self._ledger.running()
        num_ended = len(trials) - len(running)
        self._display.print_line(f"{reason}: {num_ended} trials ended, {len(running)} resume from their last epoch.")
        self._display.print_line(f"Resume with:  {resume_command}")
        close_runs(self._ledger, self._tracker, names.STATUS_STOPPED)
        return EXIT_INTERRUPTED

    def _run_trials(self, inputs: TrialInputs, interruption: Interruption, waiting: Waiting | None) -> str | None:
        """Run the queue; returns a line on what trials used, where any reported it."""
        study = self._study
        confirmations = self._ledger.confirmations()
        ended = [trial for trial in (*self._ledger.trials(), *confirmations) if trial.status != names.STATUS_RUNNING]
        teacher = read_teacher(self._folder.teacher_file) if study.base.teacher is not None else None
        board = TrialBoard(
            self._display,
            objectives=study.objectives,
            total=messages.num_planned_trials(study) + len(confirmations),
            ended=ended,
            epochs_per_trial=study.base.training.total_epochs,
            warning_at_end=PassedTeacher(study, None if teacher is None else teacher.metrics, ended).warning,
        )

        def start_confirmation(num_trainings: int) -> None:
            board.expect(num_trainings)
            self._display.print_line(messages.describe_confirmation(study, num_trainings, self._num_test_images))

        self._queue.on_confirmation = start_confirmation
        self._queue.on_patience = lambda: self._display.print_line(
            f"The search ends: the last {study.search.patience} proposals did not enlarge the hypervolume of the front "
            "(search.patience)"
        )
        stopping = StudyStopping(study, self._ledger) if study.rungs else None
        recorder = Recorder(
            self._folder,
            study.objectives,
            self._ledger,
            self._tracker,
            board,
            put_back=self._queue.put_back,
            is_interrupted=lambda: interruption.is_requested,
            waiting=waiting,
            stopping=stopping,
        )
        run_trials(study, self._folder, self._queue, recorder, inputs, interruption, stopping=stopping)
        usage = summarise_usage((*self._ledger.trials(), *self._ledger.confirmations()), recorder.max_concurrent)
        if usage is None:
            return None
        is_on_gpu = inputs.resources.num_gpus > 0 and study.base.training.device != "cpu"
        return describe_usage(usage, num_threads=inputs.resources.num_threads, is_on_gpu=is_on_gpu)
