"""A study without passwords."""

from __future__ import annotations

from sweeps.settings.redaction import redacted
from sweeps.settings.study import StudyConfig, TrackingConfig


def test_redacted_study_hides_password_of_tracking_uri_and_nothing_else() -> None:
    study = StudyConfig(name="x", tracking=TrackingConfig(uri="http://me:SECRET@host:5000"))
    assert redacted(study).tracking.uri == "http://***@host:5000"
    assert redacted(study).model_copy(update={"tracking": study.tracking}) == study
    plain = StudyConfig(name="x")
    assert redacted(plain) == plain
