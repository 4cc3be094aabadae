"""A study without the passwords of its servers, as it is shown and stored."""

from __future__ import annotations

from hkd.text.redaction import redacted_uri
from sweeps.settings.study import StudyConfig


def redacted(study: StudyConfig) -> StudyConfig:
    """The study with user and password hidden in its tracking URI."""
    tracking = study.tracking.model_copy(update={"uri": redacted_uri(study.tracking.uri)})
    return study.model_copy(update={"tracking": tracking})
