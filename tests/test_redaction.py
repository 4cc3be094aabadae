"""What of a URI may be seen."""

from __future__ import annotations

import pytest

from hkd.redaction import is_hidden, redacted_text, redacted_uri


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:pw@db:5432/x", "postgresql://***@db:5432/x"),
        ("postgresql://me:p@w@db:5432/x", "postgresql://***@db:5432/x"),
        ("postgresql://me:p/w@db/x", "postgresql://***@db/x"),
        ("http://h:5000/?user=me&password=pw&a=b", "http://h:5000/?user=me&password=***&a=b"),
        ("mysql://h/x?ssl_PASSWORD=pw", "mysql://h/x?ssl_PASSWORD=***"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        # The @ of a path is no user's.
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_a_uri_and_a_text_with_it(uri: str, shown: str) -> None:
    assert redacted_uri(uri) == shown
    text = f"request to \"{uri}\" failed; then '{uri}', a@b.c"
    assert redacted_text(text) == f"request to \"{shown}\" failed; then '{shown}', a@b.c"
    assert redacted_uri(shown) == shown
    assert is_hidden(shown) == (uri != shown)


def test_a_uri_may_hold_what_ends_it_in_a_text() -> None:
    assert redacted_uri("http://me:a 'b@host") == "http://***@host"
