"""Passwords of tracking servers: used to connect, and kept out of whatever is shown or written."""

from __future__ import annotations

import re

HIDDEN = "***"

# A scheme without a host (sqlite:///PATH) has no user either, and its path may well hold an @.
_USER_IN_URI = re.compile(r"://(?!/).*@")
_USER_IN_TEXT = re.compile(r"""://(?!/)[^\s'"]*@""")
_SECRET_IN_QUERY = re.compile(
    r"""([?&][^=&\s'"]*(?:password|passwd|pwd|token|secret)[^=&\s'"]*=)[^&\s'"]*""", re.IGNORECASE
)


def redacted_uri(uri: str) -> str:
    """One URI with user and password hidden, fit to be shown and stored."""
    return _SECRET_IN_QUERY.sub(rf"\1{HIDDEN}", _USER_IN_URI.sub(f"://{HIDDEN}@", uri))


def redacted_text(text: str) -> str:
    """Any text with the users and passwords of all URIs in it hidden."""
    return _SECRET_IN_QUERY.sub(rf"\1{HIDDEN}", _USER_IN_TEXT.sub(f"://{HIDDEN}@", text))


def is_hidden(uri: str) -> bool:
    """Whether a URI was copied from where its password is hidden."""
    return f"://{HIDDEN}@" in uri or f"={HIDDEN}" in uri
