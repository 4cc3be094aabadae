"""Removes credentials from URIs and texts before these are shown or written.

Where a text can be read in two ways, the rules here remove too much rather than too little.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

REDACTED = "***"

_NAMES = (
    "passw|passphrase|passcode|pwd|token|secret|credential|signature|"
    "(?:api|access|account|private|shared|auth)[-_.]?key"
)
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)
_SECRET_NAME_IN_QUERY = re.compile(rf"{_NAMES}|pass|key$|^sig$|^auth|^pw$", re.IGNORECASE)

_TOKEN = re.compile(r"""[^\s'"]+""")
# Possessive, and from the start of a name only: otherwise long texts without a separator take quadratic time.
_SCHEME = re.compile(
    r"(?:(?<![a-z0-9+.-])[0-9+.-]*+(?P<scheme>[a-z][a-z0-9+.-]*+))?(?P<separator>:/{2,}|%3a%2f%2f)", re.IGNORECASE
)
# Without *, so that a redacted URI stays as it is.
_BEFORE_USER = re.compile(r"[^\w*]*(?:[\w.-]+=)?")
# The delimiters also in their percent-encoded form: a URI may be a parameter of another.
_PARAMETER = re.compile(
    r"(?:[?&#;]|%3f|%26|%23|%3b)(?P<name>(?:(?!%3d|%3f|%26)[^=&?#;\s'\"])*)(?:=|%3d)", re.IGNORECASE
)
_VALUE_IN_URI = re.compile(r"[^&]*")
_VALUE_IN_TEXT = re.compile(r"""[^&\s'"]*""")
_ASSIGNMENT = re.compile(
    rf"""(?P<start>(?:{_NAMES})[\w.-]*+["']?\s*(?:=>|[=:])\s*(?:b(?=["']))?)"""
    # In quotation marks, which may be escaped inside; else up to white space.
    r"""(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|"[^"]*"|'[^']*'|["']?[^\s&'"]+)""",
    re.IGNORECASE,
)
_AUTHORIZATION = re.compile(
    r"""(?P<start>authorization["']?\s*[=:]\s*(?:b?["'])?)(?:(?:basic|bearer|digest|token|api-?key|negotiate)\s+)?"""
    r"""[^\s'"]+""",
    re.IGNORECASE,
)
_SHORTEST_DISTINCT_SECRET = 4


def redacted_uri(uri: str) -> str:
    """A URI without user, password and the values of secret parameters (``?token=``)."""
    return _without_user(_without_spans(uri, _secret_value_spans(uri, _VALUE_IN_URI)))


def redacted_text(text: str, *known_uris: str) -> str:
    """A text without the credentials in its URIs, its ``name=value`` and ``name: value`` pairs and its headers.

    Args:
        text: May contain several URIs, which end at white space and quotation marks.
        known_uris: URIs that the text may quote, in whole or in part: their secrets are removed wherever they occur.
    """
    for uri in known_uris:
        text = _without_secrets_of(uri, text)
    text = _without_spans(text, _secret_value_spans(text, _VALUE_IN_TEXT))
    text = _TOKEN.sub(lambda token: _without_user(token[0]), text)
    text = _AUTHORIZATION.sub(rf"\g<start>{REDACTED}", text)
    return _ASSIGNMENT.sub(_without_assigned_value, text)


def redacted_setting(name: str, value: str) -> str:
    """The value of a setting without credentials; removed completely if the setting's name is that of a secret."""
    return REDACTED if _SECRET_NAME.search(name) else redacted_text(value)


def is_redacted(uri: str) -> bool:
    """Whether credentials were removed from the URI, which therefore cannot be used to connect."""
    return REDACTED in uri


def _without_user(uri: str) -> str:
    span = _user_span(uri)
    return uri if span is None else _without_spans(uri, [span])


def _user_span(uri: str) -> tuple[int, int] | None:
    """Position of user and password, up to the last @, because passwords with @, / and ? are often not encoded."""
    has_scheme = False
    for match in _SCHEME.finditer(uri):
        has_scheme = True
        at = uri.rfind("@", match.end())
        if match["separator"].startswith("%"):
            at = max(at, uri.rfind("%40", match.end()))
        # sqlite:///PATH and file:///PATH have neither host nor user, and the path may contain an @.
        is_file = _is_file_scheme(match["scheme"] or "") and len(match["separator"]) > len("://")
        if at >= 0 and not is_file:
            return match.end(), at
    at = uri.rfind("@")
    # Without a scheme, USER:PASSWORD@HOST; an @ without a colon before it is that of an e-mail address or a path.
    if has_scheme or ":" not in uri[: max(at, 0)] or _is_file_scheme(uri.partition(":")[0]):
        return None
    before = _BEFORE_USER.match(uri)
    assert before is not None
    return min(before.end(), at), at


def _is_file_scheme(scheme: str) -> bool:
    return scheme.lower().partition("+")[0] in ("sqlite", "file")


def _secret_value_spans(text: str, value: re.Pattern[str]) -> list[tuple[int, int]]:
    """Positions of the values of secret parameters."""
    spans: list[tuple[int, int]] = []
    for parameter in _PARAMETER.finditer(text):
        found = value.match(text, parameter.end())
        is_inside_another = bool(spans) and parameter.start() < spans[-1][1]
        if found and not is_inside_another and _SECRET_NAME_IN_QUERY.search(unquote(parameter["name"])):
            spans.append(found.span())
    return spans


def _without_spans(text: str, spans: Sequence[tuple[int, int]]) -> str:
    for start, end in reversed(spans):
        text = text[:start] + REDACTED + text[end:]
    return text


def _without_assigned_value(match: re.Match[str]) -> str:
    quote = match["value"][0] if match["value"][0] in "\"'" else ""
    return f"{match['start']}{quote}{REDACTED}{quote}"


def _without_secrets_of(uri: str, text: str) -> str:
    """The text without the URI's credentials, which error messages quote in whole, in part or decoded."""
    text = text.replace(uri, redacted_uri(uri))
    secrets = {uri[start:end] for start, end in _secret_value_spans(uri, _VALUE_IN_URI)}
    span = _user_span(uri)
    if span is not None:
        user_and_password = uri[span[0] : span[1]]
        password = user_and_password.partition(":")[2]
        # A parser splits a password that is not encoded at the delimiters of a URI, and quotes the parts.
        secrets |= {user_and_password, password, *re.split(r"[/@?#:&=;]", password)}
    for secret in sorted(secrets | {unquote(secret) for secret in secrets}, key=len, reverse=True):
        if secret and secret != REDACTED:
            pattern = re.escape(secret)
            if len(secret) < _SHORTEST_DISTINCT_SECRET:
                pattern = rf"(?<!\w){pattern}(?!\w)"
            text = re.sub(pattern, REDACTED, text)
    return text
