from __future__ import annotations

import pytest

from hkd.training.pyramid_cache import cache as teacher_cache


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test without verified entries."""
    monkeypatch.setattr(teacher_cache, "_verified", {})
