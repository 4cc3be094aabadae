"""URIs of what is in a bucket: ``s3://BUCKET/PATH`` or ``gs://BUCKET/PATH``; of data, also ``file:///PATH``.

They may have options, as in ``s3://BUCKET/PATH?endpoint_override=HOST:PORT&scheme=http``, but never credentials.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Sequence
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

SCHEMES = ("s3", "gs")
DATA_SCHEMES = (*SCHEMES, "file")
OPTIONS = ("endpoint_override", "region", "scheme")
"""Of pyarrow."""
VERSION = "version"
"""Option of a data set: the version that was listed, of which no other is used."""


def uri_problem(uri: str, schemes: Sequence[str] = SCHEMES, options: Sequence[str] = OPTIONS) -> str | None:
    """Why a URI is none of a bucket's folder; None if it is one."""
    parts = urlsplit(uri)
    if parts.scheme not in schemes:
        return f"allowed: a folder of the file system, {', '.join(f'{each}://BUCKET/PATH' for each in schemes)}"
    if "@" in parts.netloc:
        return (
            "it has credentials, which would be written to files; remove them: they are read from the environment "
            "(AWS_ACCESS_KEY_ID, ...), ~/.aws or the machine's role"
        )
    if "@" in unquote(parts.query):
        return "its options have credentials, which would be written to files; remove them"
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/") or parts.fragment:
            return "allowed: file:///PATH"
    elif not parts.netloc or parts.fragment:
        return f"allowed: {parts.scheme}://BUCKET/PATH"
    allowed = [each for each in options if parts.scheme != "file" or each not in OPTIONS]
    unknown = sorted(set(parse_qs(parts.query, keep_blank_values=True)) - set(allowed))
    if unknown:
        return f"it has the options {', '.join(unknown)}; allowed: {', '.join(allowed)}"
    # It becomes the name of a folder.
    if re.fullmatch(r"[0-9a-f]{1,64}", version_of(uri) or "0") is None:
        return "its version is not one of hkd, which is of the digits 0-9 and a-f; remove it"
    return None


def place_of(uri: str) -> str:
    """A URI without its options."""
    return uri.partition("?")[0]


def folder_name(uri: str, *others: str) -> str:
    """A name for a local folder of copies, which differs with any argument; the first can be read in it."""
    # A readable name may be that of another URI too: s3://b/a/b and s3://b/a-b.
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", uri).strip("-")[:80]
    return f"{readable}-{hashlib.sha256(' '.join((uri, *others)).encode()).hexdigest()[:8]}"


def joined(uri: str, path: str) -> str:
    """The URI of a path relative to a folder, with the folder's options; ``..`` stays inside the bucket."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(path=posixpath.normpath(posixpath.join("/", parts.path, quote(path)))))


def version_of(uri: str) -> str | None:
    """The version that a URI names."""
    return parse_qs(urlsplit(uri).query, keep_blank_values=True).get(VERSION, [None])[-1]


def without_version(uri: str) -> str:
    """The URI without a version."""
    parts = urlsplit(uri)
    options = [each for each in parts.query.split("&") if each and each.partition("=")[0] != VERSION]
    return urlunsplit(parts._replace(query="&".join(options)))


def with_version(uri: str, version: str) -> str:
    """The URI with this version in place of another."""
    plain = without_version(uri)
    return f"{plain}{'&' if '?' in plain else '?'}{VERSION}={version}"
