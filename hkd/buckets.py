"""Access to buckets through pyarrow's file systems, which Ray and MLflow install.

Credentials are never arguments: each process finds its own, as the providers' libraries do (environment, files of the
user, role of the machine).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from hkd.text.escaping import LinesError, printable
from hkd.text.redaction import redacted_text

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

PATIENCE_SECONDS = 600.0
"""How long a process waits for a storage that is away."""
_LONGEST_PAUSE_SECONDS = 10.0
_LONGEST_REASON = 300
_REFUSED = re.compile(
    r"ACCESS_DENIED|ACCESS_KEY|SIGNATURE|CREDENTIAL|TOKEN|HTTP status: 40[13]|HTTP response code 40[13]"
)

Result = TypeVar("Result")


class StorageError(LinesError):
    """A bucket cannot be used as configured."""


class StorageAwayError(LinesError):
    """A bucket could not be reached for a long time.

    No OSError: what replaces an unreadable file must not replace one that cannot be fetched now.
    """


@lru_cache(maxsize=16)
def opened(uri: str) -> tuple[FileSystem, str]:
    """The file system of a URI, and the path in it."""
    from pyarrow.fs import FileSystem

    files, path = FileSystem.from_uri(uri)
    return files, path.rstrip("/")


def patiently(
    action: Callable[[], Result], seconds: float | None = None, on_wait: Callable[[str], None] | None = None
) -> Result:
    """Call an action again while the storage is away.

    Args:
        seconds: How long; by default :data:`PATIENCE_SECONDS`.
        on_wait: Called before each pause with the reason; what it raises ends the waiting.

    Raises:
        StorageAwayError: it was away for that time.
        OSError: of this machine, such as a full disk; or FileNotFoundError.
    """
    deadline = time.monotonic() + (PATIENCE_SECONDS if seconds is None else seconds)
    pause = 0.5
    while True:
        try:
            return action()
        except OSError as error:
            if error.errno is not None:  # pyarrow's errors of a request have none
                raise
            if time.monotonic() + pause > deadline:
                raise StorageAwayError(f"the storage cannot be used: {reason_of(error)}") from error
            if on_wait is not None:
                on_wait(reason_of(error))
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def reason_of(error: Exception) -> str:
    """The provider's text without its ids, in one printable line."""
    line = re.sub(r" \(Request ID: [^)]*\)|;? ?Details: .*", "", " ".join(str(error).split()))
    return printable(redacted_text(line[:_LONGEST_REASON]))


def is_refused(error: Exception) -> bool:
    """Whether the provider does not accept the credentials, which trying again does not change."""
    return _REFUSED.search(str(error)) is not None


def remedy_of(uri: str, error: Exception, setting: str, rights: str) -> str:
    """What a user can do about a failed request.

    Args:
        setting: Where to name another bucket.
        rights: That the credentials need, such as ``list and read``.
    """
    text = str(error)
    if "NO_SUCH_BUCKET" in text or "NoSuchBucket" in text:
        return f"create the bucket, or name another one ({setting})"
    if is_refused(error):
        return (
            "check the credentials of this machine (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or its role) "
            f"and their rights to {rights} objects of this bucket"
        )
    if uri.startswith("gs:"):
        return "check the bucket, the credentials of this machine (GOOGLE_APPLICATION_CREDENTIALS) and the network"
    return "check its address (AWS_ENDPOINT_URL or endpoint_override), its region (AWS_DEFAULT_REGION) and the network"
