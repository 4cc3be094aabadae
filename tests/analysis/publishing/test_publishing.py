"""What a report publishes: which files, under which names."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from analysis import pareto, plots
from analysis.options import parser
from analysis.publishing import command, models
from analysis.publishing import exported as exported_module
from analysis.publishing.command import publication_of
from analysis.publishing.exported import (
    ExportedTrial,
    PublishingError,
    choose,
    compare_weights,
    find_exported,
    with_trials,
)
from analysis.records.store import fetch_runs
from hkd.inference.deployed.onnx_file import DeployedFile
from hkd.metric_names import ARTIFACT_REPORT, ROLE_STUDY, TAG_ROLE
from hkd.models.weight_formats.errors import CheckpointError
from hkd.tracking_uri import TRACKING_URI_VARIABLE
from tests.analysis.publishing.files import STUDY, exported, metadata
from tests.analysis.studies import Written, record, write_study


def options(*given: str) -> list[str]:
    """The problems of a command line."""
    try:
        publication_of(parser().parse_args(given))
    except PublishingError as error:
        return str(error).split("\n")
    return []


def test_options_that_do_not_fit_together_are_problems() -> None:
    assert options("--study", "a", "--model", "x.onnx", "--register", "people", "--trial", "t1", "--attach") == []
    assert options("--study", "a") == []
    assert options("--study", "a", "--register", "people", "--trial", "t1") == []
    problems = options("--study", "a", "--study", "b", "--attach", "--watch", "--register", "a/b", "--trial", "t1")
    facts = ("--attach and --register: not used with --watch", "one --study", "a/b")
    assert len(problems) == len(facts)
    for fact, problem in zip(facts, problems, strict=True):
        assert fact in problem
    assert len(options("--study", "a", "--model", "x.onnx", "--trial", "t1")) == 1


def test_report_is_attached_to_the_run_of_its_study(
    client: MlflowClient,
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # of the artifacts
    monkeypatch.setattr(plots, "draw_front", lambda *_: plots.Picture(b"", b""))
    arguments = ["--tracking-uri", f"sqlite:///{database}", "--attach", "--study"]
    write_study(client, "demo", [Written("t0")])
    assert pareto.main([*arguments, "demo"]) == 0
    (run,) = (run for run in fetch_runs("demo", f"sqlite:///{database}") if run.tags[TAG_ROLE] == ROLE_STUDY)
    attached = {entry.path for entry in client.list_artifacts(run.run_id, ARTIFACT_REPORT)}
    assert attached == {f"{ARTIFACT_REPORT}/{file.name}" for file in Path("reports/demo").iterdir()}
    capsys.readouterr()
    # A study without a run of its own: an error before anything is written.
    write_study(client, "parentless", [Written("t0")], parent=False)
    assert pareto.main([*arguments, "parentless"]) == 2
    error = capsys.readouterr().err
    assert "--attach" in error
    assert "'parentless'" in error
    assert "--tracking-uri" not in error
    assert not Path("reports/parentless").exists()


def test_files_of_finished_trials_of_the_study_are_allowed_only() -> None:
    found = {"a": metadata(), "b": metadata(None), "c": metadata("other"), "d": metadata(trial="t3")}
    files = [DeployedFile(Path(name), b"", described) for name, described in found.items()]
    (only,) = with_trials(files[:1], STUDY)
    assert only.trial.trial_id == "t1"
    with pytest.raises(PublishingError) as caught:
        with_trials(files, STUDY)
    for fact in ("b: was exported from no study", "c: ", "study other", "d: ", "t3", "hkd export --study demo"):
        assert fact in str(caught.value)
    with pytest.raises(PublishingError) as caught:
        with_trials([DeployedFile(Path("e"), b"", metadata(trial="t9\nall is well"))], STUDY)
    # The name does not add a line to the problem and the remedy.
    assert len(str(caught.value).splitlines()) == 2


def test_only_file_of_a_trial_in_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stated = {
        "one.onnx": metadata(trial="t1"),
        "two.onnx": metadata(trial="t2"),
        "two-int8.onnx": metadata(trial="t2", precision="int8"),
        "other.onnx": metadata("other", trial="t1"),
        "weights.onnx": metadata(None),
        "CAPITALS.ONNX": metadata(trial="t5"),
    }
    for name in (*stated, "yolo.onnx", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "one.onnx").touch()

    def read(path: Path) -> DeployedFile:
        if path.name == "yolo.onnx":
            raise CheckpointError(f"{path}: of another program")
        return DeployedFile(path, b"", stated[path.name])

    monkeypatch.setattr(exported_module, "read_onnx_file", read)
    assert find_exported(tmp_path, STUDY, "t1").path == tmp_path / "one.onnx"
    assert find_exported(tmp_path, STUDY, "t5").path == tmp_path / "CAPITALS.ONNX"
    for trial_id, facts in (
        ("t2", ["2 files", "two.onnx (t2, fp32)", "two-int8.onnx (t2, int8)", "--model"]),
        (None, ["4 files", "one.onnx (t1, fp32)"]),
        ("t4", ["0 files", str(tmp_path), "hkd export --study demo --trial t4", "yolo.onnx: of another program"]),
    ):
        with pytest.raises(PublishingError) as caught:
            find_exported(tmp_path, STUDY, trial_id)
        for fact in facts:
            assert fact in str(caught.value)


def test_file_of_other_weights_than_the_trials_is_refused(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # of the artifacts
    experiment = write_study(client, "demo", [Written("t1"), Written("t2")])
    runs = {
        run.data.tags["hkd.trial_id"]: run.info.run_id
        for run in client.search_runs([experiment], "tags.`hkd.role` = 'trial'")
    }
    weights = tmp_path / "student.safetensors"
    weights.write_bytes(b"weights of t1")
    client.log_artifact(runs["t1"], str(weights))

    def file_of(trial_id: str, content: bytes) -> ExportedTrial:
        described = metadata(trial=trial_id).model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
        trial = dataclasses.replace(record(trial_id, 0.25, 1e6, 2e9), run_id=runs[trial_id])
        return ExportedTrial(DeployedFile(Path(f"{trial_id}.onnx"), b"", described), trial)

    same, without = file_of("t1", b"weights of t1"), file_of("t2", b"any")
    found = compare_weights(client.tracking_uri, [same, without])
    assert found[0] == same
    # The run of t2 has no weights.
    assert "t2.onnx" in (found[1].note or "")
    with pytest.raises(PublishingError, match=r"t1\.onnx: .*other weights.*t1.*hkd export"):
        compare_weights(client.tracking_uri, [file_of("t1", b"weights of an earlier study"), without])


def test_unusable_files_are_refused_before_anything_is_written(
    client: MlflowClient,
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # of the artifacts
    experiment = write_study(client, "demo", [Written("t1"), Written("t2")])
    (run,) = client.search_runs([experiment], "tags.`hkd.trial_id` = 't1'")
    (tmp_path / "student.safetensors").write_bytes(b"weights of t1")
    client.log_artifact(run.info.run_id, str(tmp_path / "student.safetensors"))
    arguments = ["--study", "demo", "--tracking-uri", f"sqlite:///{database}", "--register", "people", "--model"]
    assert pareto.main([*arguments, "absent\nstudent.onnx"]) == 2
    # The name does not add a line.
    (absent,) = capsys.readouterr().err.splitlines()
    assert "absent\\nstudent.onnx: no such file" in absent
    monkeypatch.setattr(command, "read_onnx_file", lambda path: DeployedFile(path, b"", metadata()))
    assert pareto.main([*arguments, "student.onnx"]) == 2
    error = capsys.readouterr().err
    for fact in ("student.onnx: ", "other weights", "hkd export --study demo --trial t1 --out student.onnx"):
        assert fact in error
    assert not Path("reports").exists()
    assert client.search_logged_models([experiment]) == []


def test_one_file_is_registered() -> None:
    first, second = exported("t1"), exported("t2")
    assert choose([first], None) is first
    assert choose([first, second], "t2") is second
    for trial_id, fact in ((None, "--trial"), ("t3", "of t3")):
        with pytest.raises(PublishingError, match=fact):
            choose([first, second], trial_id)


def test_description_is_renewed_unless_a_user_edited_it(client: MlflowClient) -> None:
    experiment = write_study(client, "demo", [Written("t1")])
    (run,) = client.search_runs([experiment], "tags.`hkd.trial_id` = 't1'")
    model = client.create_logged_model(experiment, name="t1", source_run_id=run.info.run_id)
    file = exported()
    file = dataclasses.replace(file, trial=dataclasses.replace(file.trial, run_id=run.info.run_id))

    def registered(card: str) -> tuple[bool, str | None]:
        made = models.register(client.tracking_uri, "people", file, model.model_id, card)
        return made.is_edited, client.get_model_version("people", made.version).description

    assert registered("first card") == (False, "first card")
    assert registered("second card") == (False, "second card")
    client.update_model_version("people", "1", "approved by Ada")
    assert registered("third card") == (True, "approved by Ada")
    # Child processes and later studies of this process use the store that they did before.
    assert TRACKING_URI_VARIABLE not in os.environ
