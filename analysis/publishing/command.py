"""The options of a report that write to MLflow: ``--attach``, ``--model`` and ``--register``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.publishing.exported import (
    ExportedTrial,
    PublishingError,
    choose,
    compare_weights,
    find_exported,
    with_trials,
)
from analysis.publishing.model_card import model_card
from analysis.publishing.models import CHAMPION, check_model_name, log_models, register
from analysis.records.store import reading_store
from hkd import metric_names as names
from hkd.inference.deployed.onnx_file import read_onnx_file

if TYPE_CHECKING:
    from analysis.records.study_records import StudyRecords
    from analysis.results import StudyResults


@dataclass(frozen=True)
class Publication:
    """What to write to MLflow."""

    attach: bool = False
    """The files of the report, as artifacts of the study's run."""
    models: tuple[Path, ...] = ()
    """Files of ``hkd export``, as models of their trials' runs."""
    register: str | None = None
    """Name in the registry of one of them; without ``models``, of the one in the working folder."""
    trial: str | None = None
    """Which one; None if there is only one."""

    def read(self, records: StudyRecords, tracking_uri: str) -> list[ExportedTrial]:
        """Read the files, so that a wrong one is found before anything is written.

        Raises:
            CheckpointError: a file is unreadable, or was not written by ``hkd export``.
            MissingPackageError: onnx is not installed.
            PublishingError: the study has no run of its own, or a file or name cannot be published.
            RecordsError: the store cannot be read.
        """
        if self.attach and records.run_id is None:
            raise PublishingError(
                f"--attach: study {records.study!r} has no run of its own in MLflow, to which the files belong; "
                "leave --attach out"
            )
        if self.register is not None and not self.models:
            files = [find_exported(Path(), records, self.trial)]
        else:
            files = [read_onnx_file(path) for path in self.models]
        exported = with_trials(files, records)
        if self.register is not None:
            choose(exported, self.trial)
        return compare_weights(tracking_uri, exported) if exported else []

    def publish(
        self,
        exported: Sequence[ExportedTrial],
        records: StudyRecords,
        results: StudyResults,
        report: Iterable[Path],
        tracking_uri: str,
    ) -> list[str]:
        """Write to MLflow; returns lines for the user.

        Raises:
            RecordsError: the store cannot be written.
        """
        lines = []
        if self.attach:
            assert records.run_id is not None, "read() refuses a study without a run"
            attach_report(records.run_id, report, tracking_uri)
            lines.append(f"In MLflow: {names.ARTIFACT_REPORT}/, artifacts of the run of the study {records.study}")
        if not exported:
            return lines
        lines += [f"Note: {each.note}" for each in exported if each.note is not None]
        cards = [model_card(each, records, results) for each in exported]
        ids = log_models(tracking_uri, list(zip(exported, cards, strict=True)))
        lines += [
            f"Model {each.name} of {each.file.path}: models:/{model_id}"
            for each, model_id in zip(exported, ids, strict=True)
        ]
        if self.register is not None:
            index = list(exported).index(choose(exported, self.trial))
            made = register(tracking_uri, self.register, exported[index], ids[index], cards[index])
            kept = "; its description was edited in the registry, and stays" if made.is_edited else ""
            lines.append(f"Registered: {made.name}, version {made.version}, alias {CHAMPION}{kept}")
            lines.append(f"Serve it:  mlflow models serve --env-manager local -m 'models:/{made.name}@{CHAMPION}'")
        return lines


NO_PUBLICATION = Publication()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command line."""
    group = parser.add_argument_group("MLflow: nothing is written there without these options")
    group.add_argument("--attach", action="store_true", help="attach the report's files to the study's run")
    group.add_argument(
        "--model",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="files of  hkd export --study NAME --trial ID : log each as a model of its trial, with a model card",
    )
    group.add_argument(
        "--register",
        metavar="MODEL",
        help=f"make one of them, or without --model the only one in the working folder, a version of this registered "
        f"model, with the alias {CHAMPION}",
    )
    group.add_argument("--trial", metavar="ID", help="with --register: of which trial, if there are several files")


def publication_of(options: argparse.Namespace) -> Publication:
    """What the options ask for.

    Raises:
        PublishingError: they do not fit together.
    """
    problems = []
    given = {"--attach": options.attach, "--model": options.model, "--register": options.register}
    used = " and ".join(name for name, value in given.items() if value)
    if options.watch is not None and used:
        problems.append(f"{used}: not used with --watch; publish the report when the study has ended")
    if len(options.study) > 1 and used:
        problems.append(f"{used}: used with one --study only")
    if options.trial is not None and options.register is None:
        problems.append("--trial is used with --register only")
    if options.register is not None:
        try:
            check_model_name(options.register)
        except PublishingError as error:
            problems.append(str(error))
    if problems:
        raise PublishingError(*problems)
    return Publication(options.attach, tuple(options.model), options.register, options.trial)


def attach_report(run_id: str, report: Iterable[Path], tracking_uri: str) -> None:
    """Write files as artifacts of a study's run; those of an earlier report of the same names are replaced.

    Raises:
        RecordsError: the store cannot be written.
    """
    with reading_store(tracking_uri, what="written") as client:
        for file in report:
            client.log_artifact(run_id, str(file), names.ARTIFACT_REPORT)
