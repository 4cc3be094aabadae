from __future__ import annotations

import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from analysis import pareto, plots
from analysis.report.sentences import unfinished
from hkd import metric_names as names
from tests.analysis.studies import TEACHER, Written, record, records, write_study


def test_report_is_renewed_until_the_study_ends(
    client: MlflowClient,
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(plots, "draw_front", lambda *_: plots.Picture(b"a picture", b"a picture"))
    experiment = write_study(client, "demo", [Written("t0", mr2=(0.9,), status="running", mlflow_status="RUNNING")])
    (parent,) = client.search_runs([experiment], "tags.`hkd.role` = 'study'")
    (run,) = client.search_runs([experiment], "tags.`hkd.trial_id` = 't0'")
    client.set_tag(parent.info.run_id, names.TAG_STATUS, names.STATUS_RUNNING)
    client.set_tag(parent.info.run_id, names.TAG_NUM_TRIALS, "3")
    report = tmp_path / "report" / "report.html"
    pages: list[str] = []

    def sleep(seconds: float) -> None:
        """What happens between two reports: a trial ends, then the study."""
        assert seconds == 7
        if not report.exists():
            client.set_tag(run.info.run_id, names.TAG_STATUS, names.STATUS_FINISHED)
            client.log_metric(run.info.run_id, names.BUDGET_FRACTION, 1.0, step=4)
            client.log_metric(run.info.run_id, names.MR2_REASONABLE, 0.4, step=4)
        else:
            pages.append(report.read_text())
            client.set_tag(parent.info.run_id, names.TAG_STATUS, names.STATUS_STOPPED)

    monkeypatch.setattr(time, "sleep", sleep)
    given = ["--study", "demo", "--tracking-uri", f"sqlite:///{database}", "--out", str(report.parent), "--watch", "7"]
    assert pareto.main(given) == 0
    printed = capsys.readouterr().out
    assert "has no finished trials" in printed
    assert "2 of 3 planned trials have not started" in printed
    (during,) = pages
    assert '"reloadSeconds":7' in during
    assert '"reloadSeconds":null' in report.read_text()
    # It ended with trials missing.
    for page in (during, report.read_text()):
        assert "2 of 3 planned trials have not started" in page


@pytest.mark.parametrize("seconds", ["0", "4", "86401", "-5", "1e3", "x", "9" * 10_000])
def test_time_between_reports_has_limits(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        pareto.main(["--study", "demo", f"--watch={seconds}"])
    assert "allowed: 5 to 86400 seconds" in capsys.readouterr().err


def test_interrupted_watching_keeps_the_report(
    client: MlflowClient, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "draw_front", lambda *_: plots.Picture(b"a picture", b"a picture"))
    experiment = write_study(client, "demo", [Written("t0")])
    (parent,) = client.search_runs([experiment], "tags.`hkd.role` = 'study'")
    client.set_tag(parent.info.run_id, names.TAG_STATUS, names.STATUS_RUNNING)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    out = tmp_path / "report"
    assert (
        pareto.main(["--study", "demo", "--tracking-uri", f"sqlite:///{database}", "--out", str(out), "--watch"]) == 0
    )
    assert '"reloadSeconds":60' in (out / "report.html").read_text()


@pytest.mark.parametrize("planned", ["x", "", "-3", "\N{SUPERSCRIPT TWO}", "9" * 10_000])
def test_tag_that_is_no_number_is_ignored(planned: str) -> None:
    study = records([record("t0", 0.3, 1e6, 1e9)], TEACHER)
    tags = {names.TAG_NUM_TRIALS: planned}
    assert unfinished(type(study)(**{**study.__dict__, "tags": tags})) is None
