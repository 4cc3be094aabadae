"""Removes credentials from URIs and texts before these are shown or written.

Where a text can be read in two ways, the rules here remove too much rather than too little.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from urllib.parse import unquote

REDACTED = "***"

_NAMES = (
    # Not tokenizers, numbers of tokens and secretaries.
    r"passw|passphrase|passcode|pwd|token(?!iz|s\W+\d{1,9}\b)|secret(?!ar)|credential|signature|jwt|jsessionid|"
    "phpsessid|sessionid|(?:api|access|account|private|secret|shared|signing|subscription|auth)[-_.]?key"
)
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)
_SECRET_NAME_IN_QUERY = re.compile(rf"{_NAMES}|pass|key$|^sig$|^auth|^pw$", re.IGNORECASE)
# Of what describes a secret: password_file, token_type, passwd_min_length.
_HARMLESS_SUFFIX = re.compile(r"[-_.](?:file|path|length|type|count|limit|name)\s*\W*$", re.IGNORECASE)

_TOKEN = re.compile(r"""[^\s'"]+""")
# A URI may be a parameter of another, so delimiters may be percent-encoded, once or several times.
_PERCENT = "%(?:25)*+"
_REPEATED_PERCENT = re.compile(_PERCENT)
# Possessive, and from the start of a name only: otherwise long texts without a separator take quadratic time.
_SCHEME = re.compile(
    r"(?:(?<![a-z0-9+.-])[0-9+.-]*+(?P<scheme>[a-z][a-z0-9+.-]*+))?"
    rf"(?P<separator>:/{{2,}}|{_PERCENT}3a(?:{_PERCENT}2f){{2,}}+)",
    re.IGNORECASE,
)
_AT = re.compile(rf"@|{_PERCENT}40")
# Without *, so that a redacted URI stays as it is.
_BEFORE_USER = re.compile(r"[^\w*]*(?:[\w.-]+=)?")
_PARAMETER = re.compile(
    rf"(?:[?&#;]|{_PERCENT}(?:3f|26|23|3b))(?P<name>(?:(?!{_PERCENT}(?:3d|3f|26))[^=&?#;\s'\"])*)(?:=|{_PERCENT}3d)",
    re.IGNORECASE,
)
_VALUE_IN_URI = re.compile(r"[^&]*")
_VALUE_IN_TEXT = re.compile(r"""[^&\s'"]*""")
# In quotation marks, which may be escaped or doubled inside; else up to white space.
_VALUE = r"""(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.|'')*'|"[^"]*"|'[^']*'|["']?[^\s&'"]+)"""
_ASSIGNMENT = re.compile(
    # The name once from the start of its word, and atomic: see _SCHEME.
    rf"""(?P<start>(?<![\w.-])(?>[\w.-]*?(?:{_NAMES}|\bpw\b))[\w.-]*+["']?\s*"""
    rf"""(?:=>|[=:]|{_PERCENT}3[ad])\s*(?:b(?=["']))?){_VALUE}""",
    re.IGNORECASE,
)
_FLAG = re.compile(
    # --password VALUE, and in a printed list: '--password', 'VALUE'
    rf"""(?P<start>(?<![\w-])--?(?>[\w-]*?(?:{_NAMES}))[a-z]*["']?,?\s++(?![=:-]|%)){_VALUE}""",
    re.IGNORECASE,
)
_USER_FLAG = re.compile(r"""(?P<start>(?<![\w-])(?:-u|--user)[\s=]+["']?)[^\s'":]+:[^\s'"]+""")
_AUTHORIZATION = re.compile(
    r"""(?P<start>authorization["']?\s*[=:][\s[(]*(?:b?["'])?)"""
    r"""(?:(?:basic|bearer|digest|token|api-?key|negotiate)\s+)?[^\s'"]+""",
    re.IGNORECASE,
)
_COOKIE = re.compile(r"""(?P<start>\b(?:set-)?cookie["']?\s*[=:]\s*(?:b?["'])?)[^\n'"]+""", re.IGNORECASE)
_BEARER = re.compile(
    r"""(?P<start>\bbearer\s+)(?!(?:of|is|in|or|and|for|the|tokens?|auth\w*|scheme|headers?)\b|\w+=["'])[^\s'",;]+""",
    re.IGNORECASE,
)
_BASIC = re.compile(r"(?P<start>\bbasic\s+)(?P<value>[A-Za-z0-9+/_-]+={0,2})", re.IGNORECASE)
# Secrets that are recognised by themselves: JSON web tokens, tokens of GitHub, GitLab, Hugging Face and Slack.
_KNOWN_SECRET = re.compile(
    r"\beyJ[\w-]{8,}(?:\.[\w-]+){1,2}|\b(?:gh[pousr]|github_pat|glpat|hf|xox[a-z])[-_][\w-]{16,}"
)
_PRIVATE_KEY = re.compile(
    r"(?P<start>-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_VALUES_AFTER_A_START = (_PRIVATE_KEY, _AUTHORIZATION, _COOKIE, _BEARER, _USER_FLAG)
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
    text = _KNOWN_SECRET.sub(REDACTED, text)
    for pattern in _VALUES_AFTER_A_START:
        text = pattern.sub(rf"\g<start>{REDACTED}", text)
    text = _BASIC.sub(_without_basic_credentials, text)
    text = _FLAG.sub(_without_assigned_value, text)
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
    last_at = uri.rfind("@")
    last_encoded_at = max((each.start() for each in _AT.finditer(uri)), default=-1)
    for match in _SCHEME.finditer(uri):
        has_scheme = True
        at = last_encoded_at if match["separator"].startswith("%") else last_at
        # sqlite:///PATH and file:///PATH have neither host nor user, and the path may contain an @.
        is_file = _is_file_scheme(match["scheme"] or "") and len(match["separator"]) > len("://")
        if at >= match.end() and not is_file:
            return match.end(), at
    at = last_at
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
        is_inside_another = bool(spans) and parameter.start() < spans[-1][1]
        if is_inside_another or not _SECRET_NAME_IN_QUERY.search(_decoded(parameter["name"])):
            continue
        found = value.match(text, parameter.end())
        assert found is not None  # it may be empty
        spans.append(found.span())
    return spans


def _without_spans(text: str, spans: Sequence[tuple[int, int]]) -> str:
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(text)]
    return REDACTED.join(text[end:start] for end, start in zip(ends, starts, strict=True))


def _decoded(text: str) -> str:
    """Without percent-encoding, which may be repeated."""
    return unquote(_REPEATED_PERCENT.sub("%", text))


def _without_basic_credentials(match: re.Match[str]) -> str:
    """Without what follows ``Basic`` if it is USER:PASSWORD in base64, and not a word."""
    value = match["value"].rstrip("=")
    try:
        decoded = base64.b64decode(
            value + "=" * (-len(value) % 4), altchars="-_" if "-" in value or "_" in value else None
        )
    except ValueError:
        return match[0]
    return f"{match['start']}{REDACTED}" if b":" in decoded else match[0]


def _without_assigned_value(match: re.Match[str]) -> str:
    if _HARMLESS_SUFFIX.search(match["start"]):
        return match[0]
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
    for secret in sorted(secrets | {_decoded(secret) for secret in secrets}, key=len, reverse=True):
        if secret and secret != REDACTED:
            pattern = re.escape(secret)
            if len(secret) < _SHORTEST_DISTINCT_SECRET:
                pattern = rf"(?<!\w){pattern}(?!\w)"
            text = re.sub(pattern, REDACTED, text)
    return text
