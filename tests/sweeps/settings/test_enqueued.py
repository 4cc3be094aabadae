"""Settings that are tried before those of the sampler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hkd.config_files.problems import ConfigError
from sweeps.checks import check_enqueued_costs
from sweeps.folder import StudyError
from sweeps.settings.enqueued import read_enqueued
from sweeps.settings.study import StudyConfig
from sweeps.trials.queue import TrialQueue
from sweeps.trials.records.ledger import open_ledger

SPACE = {
    "student.head_channels": {"type": "int", "low": 32, "high": 96, "step": 32},
    "training.learning_rate": {"type": "float", "low": 0.001, "high": 1.0, "log": True},
    "training.optimizer": {"type": "categorical", "choices": ["sgd", "adamw"]},
}


def study(**search: Any) -> StudyConfig:
    return StudyConfig.model_validate({"name": "x", "base": {"teacher": None}, "space": SPACE, "search": search})


def read(folder: Path, text: str) -> tuple[dict[str, Any], ...]:
    (folder / "first.yaml").write_text(text, encoding="utf-8")
    return read_enqueued(folder / "first.yaml", study())


def test_dotted_names_and_sections(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "- {student.head_channels: 64, training.optimizer: sgd}\n- training: {learning_rate: 1}\n",
    )
    assert found == (
        {"student.head_channels": 64, "training.optimizer": "sgd"},
        {"training.learning_rate": 1.0},
    )
    assert isinstance(found[1]["training.learning_rate"], float)


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(
            tmp_path,
            "- {student.head_chanels: 64}\n- {student.head_channels: 48, training.optimizer: adam}\n"
            "- 3\n- {training.learning_rate: 2, student.head_channels: 64.5}\n- {student.head_channels: true}\n",
        )
    text = str(caught.value)
    for fact in (
        "--enqueue",
        "entry 1: student.head_chanels: is not searched by this study; did you mean student.head_channels?",
        "entry 2: student.head_channels: found 48",
        "32 to 96 in steps of 32",
        'entry 2: training.optimizer: found "adam"',
        "sgd, adamw",
        "entry 3: found 3",
        "entry 4: training.learning_rate: found 2",
        "0.001 to 1",
        "entry 4: student.head_channels: found 64.5",
        "entry 5: student.head_channels: found true",
    ):
        assert fact in text, text


@pytest.mark.parametrize(("text", "fact"), [("{a: 1}", "found"), ("", "found"), ("[", "not valid YAML")])
def test_file_of_another_form(tmp_path: Path, text: str, fact: str) -> None:
    with pytest.raises(ConfigError, match=fact):
        read(tmp_path, text)
    with pytest.raises(ConfigError, match="no such file"):
        read_enqueued(tmp_path / "none.yaml", study())


def test_limits_apply(tmp_path: Path) -> None:
    limited = study(sampler="front", max_params=1)
    (complete,) = read(tmp_path, "- {student.head_channels: 64}")
    with pytest.raises(StudyError, match=r"entry 1: has [\d,]+ parameters; allowed: at most 1 \(search\.max_params\)"):
        check_enqueued_costs(limited, [complete])
    with pytest.raises(StudyError, match=r"student\.head_channels: missing"):
        check_enqueued_costs(limited, [{"training.learning_rate": 0.1}])
    check_enqueued_costs(study(), [complete])


def test_enqueued_settings_run_first_and_once(tmp_path: Path) -> None:
    first = {"student.head_channels": 64, "training.learning_rate": 0.5, "training.optimizer": "sgd"}
    partial = {"student.head_channels": 96}
    ledger = open_ledger(study(num_trials=3), tmp_path / "journal")
    assert ledger.enqueue([first, partial, first]) == 2
    started = ledger.start_proposed()
    assert started is not None
    assert started.params == first
    # As after an interruption, with the same command.
    again = open_ledger(study(num_trials=3), tmp_path / "journal")
    assert again.enqueue([first, partial]) == 0
    assert again.num_enqueued == 1
    queue = TrialQueue(study(num_trials=3), again)
    trials = [queue.next() for _ in range(3)]
    assert [trial.trial_id for trial in trials if trial is not None] == ["trial-001", "trial-002", "trial-003"]
    second = trials[1]
    assert second is not None
    assert second.params["student.head_channels"] == 96
    assert second.params.keys() == SPACE.keys()


def test_settings_of_a_proposal_that_was_killed_are_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(study(), tmp_path / "journal")
    ledger.enqueue([{"training.learning_rate": 0.25}])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "_name", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger.start_proposed()
    again = open_ledger(study(), tmp_path / "journal")
    started = again.start_proposed()
    assert started is not None
    assert (started.trial_id, started.params["training.learning_rate"]) == ("trial-001", 0.25)
