"""Options that stand for settings, and durations."""

from __future__ import annotations

import argparse

import pytest

from sweeps.command_options import add_arguments, duration_seconds, settings_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("90m", 5400), ("8h", 28800), ("1h30m", 5400), ("1.5h", 5400), ("1d", 86400), ("1h 5s", 3605)],
)
def test_duration(text: str, seconds: float) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "8x", "-1h", "0s", "1h!", "367d", "nan", "1e3s"])
def test_other_text_is_no_duration(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="8h"):
        duration_seconds(text)


def test_options_stand_for_settings() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert settings_of(parser.parse_args([])) == []
    given = ["--num-trials", "7", "--max-concurrent", "2", "--patience", "3", "--warm-start", "007"]
    assert settings_of(parser.parse_args(given)) == [
        "search.num_trials=7",
        "search.patience=3",
        'search.warm_start="007"',
        "resources.max_concurrent_trials=2",
    ]
