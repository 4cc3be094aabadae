from __future__ import annotations

import io

import pytest

from hkd.data.conversion.progress import track_progress


@pytest.mark.parametrize("description", ["[/red] a", "[link=http://host]a", "a\x1b[2J\nb\x9b", "a\\"])
def test_description_is_text(description: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    assert list(track_progress(range(2), description)) == [0, 1]
    shown = out.getvalue()
    assert description.encode("unicode_escape").decode().replace("\\\\", "\\") in shown
    assert all(letter.isprintable() or letter in "\r\n" for letter in shown)
