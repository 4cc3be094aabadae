"""Notes in the exceptions of trials, by which the driver recognises them in Ray's text: it gets no exception."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from hkd.buckets import StorageAwayError
from sweeps.trials.node_files import NodeError

RAISED_NOTE = "hkd: raised by the trial"
"""Note of every exception that a trial raises, a line of its text. Ray's own errors, of a lost worker, lack it."""
DISK_FULL_NOTE = "hkd: the disk of the checkpoint is full"
"""Note of an exception that a trial raises while it saves, a line of its text as well."""
NODE_NOTE = "hkd: the node does not see the files of the study"
"""Note of an exception that a trial raises at its start, a line of its text as well."""
STORAGE_AWAY_NOTE = "hkd: the storage is away"
"""Note of an exception that a trial raises while it waits for bucket or shared folder, a line of its text too."""


@contextmanager
def exceptions_noted() -> Iterator[None]:
    """Note in every exception of a trial what kind it is."""
    try:
        yield
    except StorageAwayError as error:
        error.add_note(STORAGE_AWAY_NOTE)  # no error of the trial, which is queued again
        raise
    except NodeError as error:
        error.add_note(NODE_NOTE)  # as above
        raise
    except Exception as error:
        error.add_note(RAISED_NOTE)
        raise


def is_disk_full(error: OSError | RuntimeError) -> bool:
    """Whether an exception while a checkpoint was written means that."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "PytorchStreamWriter failed" in str(error)  # torch.save reports no cause
