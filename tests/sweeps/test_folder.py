"""Whose a study's folder is."""

from __future__ import annotations

from pathlib import Path

import pytest

from hkd.config import TrainingConfig, TrialConfig
from sweeps.folder import StudyError, StudyFolder, identity_differences
from sweeps.settings.resources import ResourcesConfig
from sweeps.settings.study import SearchConfig, StudyConfig, TrackingConfig


def study(tmp_path: Path, **changes: object) -> StudyConfig:
    return StudyConfig.model_validate({"name": "x", "storage_path": tmp_path, **changes})


def test_a_study_may_be_begun_once_and_resumed(tmp_path: Path) -> None:
    asked = study(tmp_path)
    folder = StudyFolder(asked)
    assert folder.check(asked) is asked
    with folder.locked():
        folder.write_study(asked)
    assert folder.study_exists
    assert folder.check(asked) == asked


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"base": TrialConfig(training=TrainingConfig(total_epochs=3))}, "base.training.total_epochs: was 8, is 3"),
        ({"objectives": ("flops",)}, "objectives: was ['mr2_reasonable', 'num_params', 'flops'], is ['flops']"),
        ({"search": SearchConfig(seed=1)}, "search.seed: was 0, is 1"),
        ({"tracking": TrackingConfig(uri="http://a")}, "tracking.uri: was 'sqlite:///mlflow.db', is 'http://a'"),
        # Leaves no dotted name of its own behind.
        ({"baselines": {"plain": {}}}, "baselines: was [], is ['plain']"),
        (
            {"space": {"training.seed": {"type": "int", "low": 0, "high": 3}}},
            "space.training.seed.high: was absent, is 3",
        ),
    ],
)
def test_another_study_of_the_same_name_is_refused(tmp_path: Path, changes: dict[str, object], difference: str) -> None:
    begun = study(tmp_path)
    folder = StudyFolder(begun)
    folder.write_study(begun)
    before = folder.config_file.read_bytes()
    other = study(tmp_path, **changes)
    assert difference in identity_differences(begun, other)
    with pytest.raises(StudyError, match="--name NAME") as caught:
        folder.check(other)
    assert difference in str(caught.value)
    assert folder.config_file.read_bytes() == before


def test_more_trials_and_other_resources_are_the_same_study(tmp_path: Path) -> None:
    begun = study(tmp_path)
    folder = StudyFolder(begun)
    folder.write_study(begun)
    more = study(tmp_path, search=SearchConfig(num_trials=99), resources=ResourcesConfig(cpus_per_trial=3))
    assert identity_differences(begun, more) == []
    assert folder.check(more) == more
    # The file says how many were asked for last: `make demo` goes on with a study that was given more trials by hand.
    folder.write_study(more)
    fewer = folder.check(study(tmp_path, search=SearchConfig(num_trials=1)))
    assert fewer.search.num_trials == 99


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    folder = StudyFolder(study(tmp_path))
    folder.path.mkdir()
    (folder.path / "thesis.tex").write_text("do not touch", encoding="utf-8")
    with pytest.raises(StudyError, match="is no study's folder"):
        folder.check(study(tmp_path))
    assert [entry.name for entry in folder.path.iterdir()] == ["thesis.tex"]


def test_a_damaged_study_file_is_told(tmp_path: Path) -> None:
    folder = StudyFolder(study(tmp_path))
    folder.write_study(study(tmp_path))
    folder.config_file.write_text("name: x\nbose: 1\n", encoding="utf-8")
    with pytest.raises(StudyError, match=r"bose: unknown key(.|\n)*--name NAME"):
        folder.check(study(tmp_path))


def test_two_processes_do_not_run_one_study(tmp_path: Path) -> None:
    asked = study(tmp_path)
    first, second = StudyFolder(asked), StudyFolder(asked)
    with first.locked():
        first.write_study(asked)
        with pytest.raises(StudyError, match="running right now in another process"), second.locked():
            pass
    with second.locked():
        pass


def test_what_could_not_be_begun_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = StudyFolder(study(tmp_path))
    with pytest.raises(RuntimeError), folder.locked():
        raise RuntimeError
    assert not folder.path.exists()


def test_each_attempt_has_a_folder_and_earlier_ones_can_be_removed(tmp_path: Path) -> None:
    folder = StudyFolder(study(tmp_path))
    attempts = [folder.attempt_folder("trial-001", attempt) for attempt in (1, 2, 3)]
    assert [attempt.name for attempt in attempts] == ["trial-001", "trial-001-attempt-2", "trial-001-attempt-3"]
    other = folder.attempt_folder("trial-002", 1)
    for path in (*attempts, other):
        (path / "checkpoint_000000").mkdir(parents=True)
    folder.remove_earlier_attempts("trial-001", 3)
    assert sorted(path.name for path in folder.path.iterdir()) == ["trial-001-attempt-3", "trial-002"]


def test_no_password_is_written_or_told_and_it_may_change(tmp_path: Path) -> None:
    def tracked_by(uri: str) -> StudyConfig:
        return study(tmp_path, tracking=TrackingConfig(uri=uri))

    begun = tracked_by("http://me:SECRET@host:5000")
    folder = StudyFolder(begun)
    folder.write_study(begun)
    assert "uri: http://***@host:5000" in folder.config_file.read_text(encoding="utf-8")
    rotated = tracked_by("http://me:ROTATED@host:5000")
    assert folder.check(rotated) == rotated
    with pytest.raises(StudyError) as caught:
        folder.check(tracked_by("http://me:SECRET@other:5000"))
    assert "tracking.uri: was 'http://***@host:5000', is 'http://***@other:5000'" in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("storage", ["file", "file/below", "/proc/runs"])
def test_an_unusable_place_is_told(tmp_path: Path, storage: str) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    asked = study(tmp_path, storage_path=tmp_path / storage)
    folder = StudyFolder(asked)
    with pytest.raises(StudyError, match="cannot be made or used .*--set storage_path=PATH"), folder.locked():
        pass
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_a_file_of_the_studys_name_is_left_alone(tmp_path: Path) -> None:
    folder = StudyFolder(study(tmp_path))
    folder.path.write_text("mine", encoding="utf-8")
    with pytest.raises(StudyError, match="cannot be made or used"):
        folder.check(study(tmp_path))
