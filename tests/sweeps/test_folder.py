"""Which folders a study accepts, and what it writes there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hkd.config import TrainingConfig, TrialConfig
from hkd.own_folders import SharedFolderError
from sweeps.folder import StudyError, StudyFolder, identity_differences
from sweeps.settings.resources import ResourcesConfig
from sweeps.settings.search import SearchConfig
from sweeps.settings.study import StudyConfig, TrackingConfig


def study(tmp_path: Path, **changes: object) -> StudyConfig:
    return StudyConfig.model_validate({"name": "x", "storage_path": tmp_path, **changes})


def test_study_is_created_once_and_resumed(tmp_path: Path) -> None:
    requested = study(tmp_path)
    folder = StudyFolder(requested)
    assert folder.check(requested) is requested
    with folder.locked():
        folder.write_study(requested)
    assert folder.study_exists
    assert folder.check(requested) == requested


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"base": TrialConfig(training=TrainingConfig(total_epochs=3))}, "base.training.total_epochs: was 8, is 3"),
        ({"objectives": ("mr2_all",)}, "objectives: was ['mr2_reasonable', 'num_params', 'flops'], is ['mr2_all']"),
        ({"search": SearchConfig(seed=1)}, "search.seed: was 0, is 1"),
        ({"tracking": TrackingConfig(uri="http://a")}, "tracking.uri: was 'sqlite:///mlflow.db', is 'http://a'"),
        # Has no dotted key.
        ({"baselines": {"plain": {}}}, "baselines: was [], is ['plain']"),
        (
            {"space": {"training.seed": {"type": "int", "low": 0, "high": 3}}},
            "space.training.seed.high: was absent, is 3",
        ),
    ],
)
def test_other_study_of_same_name_is_rejected(tmp_path: Path, changes: dict[str, object], difference: str) -> None:
    existing = study(tmp_path)
    folder = StudyFolder(existing)
    folder.write_study(existing)
    before = folder.config_file.read_bytes()
    other = study(tmp_path, **changes)
    assert difference in identity_differences(existing, other)
    with pytest.raises(StudyError, match="--name NAME") as caught:
        folder.check(other)
    assert difference in str(caught.value)
    assert folder.config_file.read_bytes() == before


def test_resumed_study_has_the_versions_of_its_data_sets(tmp_path: Path) -> None:
    def on(option: str) -> StudyConfig:
        names = ("train_annotations", "validation_annotations")
        return study(tmp_path, base={"data": {name: f"s3://bucket/{name}.json{option}" for name in names}})

    started = on("?version=1a")
    folder = StudyFolder(started)
    folder.write_study(started)
    assert folder.check(on("")) == started
    with pytest.raises(StudyError, match=r"train_annotations: was .*version=1a.*version=2b"):
        folder.check(on("?version=2b"))


def test_number_of_trials_and_resources_may_change(tmp_path: Path) -> None:
    existing = study(tmp_path)
    folder = StudyFolder(existing)
    folder.write_study(existing)
    more = study(tmp_path, search=SearchConfig(num_trials=99), resources=ResourcesConfig(cpus_per_trial=3))
    assert identity_differences(existing, more) == []
    assert folder.check(more) == more
    # `make demo` resumes a study whose num_trials was raised by hand: the number last requested applies.
    folder.write_study(more)
    fewer = folder.check(study(tmp_path, search=SearchConfig(num_trials=1)))
    assert fewer.search.num_trials == 99


def test_folder_with_other_files_is_rejected_unchanged(tmp_path: Path) -> None:
    folder = StudyFolder(study(tmp_path))
    folder.path.mkdir()
    (folder.path / "thesis.tex").write_text("do not touch", encoding="utf-8")
    with pytest.raises(StudyError, match="has no study"):
        folder.check(study(tmp_path))
    assert [entry.name for entry in folder.path.iterdir()] == ["thesis.tex"]


def test_invalid_study_file_is_rejected(tmp_path: Path) -> None:
    folder = StudyFolder(study(tmp_path))
    folder.write_study(study(tmp_path))
    folder.config_file.write_text("name: x\nbose: 1\n", encoding="utf-8")
    with pytest.raises(StudyError, match=r"bose: unknown key(.|\n)*--name NAME"):
        folder.check(study(tmp_path))


def test_study_runs_in_one_process_only(tmp_path: Path) -> None:
    requested = study(tmp_path)
    first, second = StudyFolder(requested), StudyFolder(requested)
    with first.locked():
        first.write_study(requested)
        with pytest.raises(StudyError, match="another process"), second.locked():
            pass
    with second.locked():
        pass


def test_study_that_does_not_start_leaves_no_folder(tmp_path: Path) -> None:
    folder = StudyFolder(study(tmp_path))
    with pytest.raises(RuntimeError), folder.locked():
        raise RuntimeError
    assert not folder.path.exists()


def test_study_that_does_not_start_removes_only_folders_that_it_created(tmp_path: Path) -> None:
    existing = tmp_path / "existing"
    existing.mkdir()
    with pytest.raises(RuntimeError), StudyFolder(study(tmp_path, storage_path=existing / "a" / "b")).locked():
        raise RuntimeError
    assert list(tmp_path.rglob("*")) == [existing]


def test_checkpoints_and_attempts_that_are_not_kept_are_removed(tmp_path: Path) -> None:
    folder = StudyFolder(study(tmp_path))
    attempts = [folder.attempt_folder("trial-001", attempt) for attempt in (1, 2, 3)]
    assert [attempt.name for attempt in attempts] == ["trial-001", "trial-001-attempt-2", "trial-001-attempt-3"]
    other = folder.attempt_folder("trial-002", 1)
    for path in (*attempts, other):
        for checkpoint in ("checkpoint_000000", "checkpoint_000001"):
            (path / checkpoint).mkdir(parents=True)
    keep = [Path("trial-001-attempt-3/checkpoint_000000"), Path("trial-001-attempt-2/checkpoint_000001")]
    folder.remove_checkpoints("trial-001", 3, keep=keep)
    assert sorted(path.relative_to(folder.path) for path in folder.path.glob("trial-001*/*")) == sorted(keep)
    assert len(list(other.iterdir())) == 2
    folder.remove_checkpoints("trial-001", 3, keep=keep[:1])
    assert sorted(path.name for path in folder.path.iterdir()) == ["trial-001-attempt-3", "trial-002"]


def test_password_is_never_written_and_may_change(tmp_path: Path) -> None:
    def tracked_by(uri: str) -> StudyConfig:
        return study(tmp_path, tracking=TrackingConfig(uri=uri))

    existing = tracked_by("http://me:SECRET@host:5000")
    folder = StudyFolder(existing)
    folder.write_study(existing)
    assert "uri: http://***@host:5000" in folder.config_file.read_text(encoding="utf-8")
    rotated = tracked_by("http://me:ROTATED@host:5000")
    assert folder.check(rotated) == rotated
    with pytest.raises(StudyError) as caught:
        folder.check(tracked_by("http://me:SECRET@other:5000"))
    assert "tracking.uri: was 'http://***@host:5000', is 'http://***@other:5000'" in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("storage", ["file", "file/below", "/proc/runs"])
def test_unusable_storage_path_is_rejected(tmp_path: Path, storage: str) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    requested = study(tmp_path, storage_path=tmp_path / storage)
    folder = StudyFolder(requested)
    with pytest.raises(StudyError, match=f"{re.escape(str(folder.path))}: .*--set storage_path=PATH"), folder.locked():
        pass
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_file_of_study_name_is_rejected_unchanged(tmp_path: Path) -> None:
    folder = StudyFolder(study(tmp_path))
    folder.path.write_text("mine", encoding="utf-8")
    with pytest.raises(StudyError, match="--set storage_path=PATH"):
        folder.check(study(tmp_path))


def test_study_starts_after_process_was_killed_while_it_wrote_the_first_file(tmp_path: Path) -> None:
    requested = study(tmp_path)
    folder = StudyFolder(requested)
    folder.path.mkdir()
    (folder.path / "lock").touch()
    left = folder.path / ".study.yaml.4711-0123456789abcdef"
    left.write_text("name: x", encoding="utf-8")
    assert folder.check(requested) is requested
    with folder.locked():
        assert not left.exists()
        folder.write_study(requested)
    (tmp_path / "x" / "study.yaml").unlink()
    (tmp_path / "x" / ".study.yaml.bak").touch()  # not a temporary name of hkd's
    with pytest.raises(StudyError, match="is not empty and has no study"):
        folder.check(requested)


def test_study_in_folder_that_all_users_can_write_to_is_refused(tmp_path: Path) -> None:
    requested = study(tmp_path / "runs")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs").chmod(0o777)
    with pytest.raises(SharedFolderError, match="storage_path"), StudyFolder(requested).locked():
        pass
    assert list((tmp_path / "runs").iterdir()) == []
