"""Worker processes of benchmarks that train several networks at once."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this process, at once, when the process that started it has ended, for whatever reason.

    A training would otherwise go on after its command was killed, beside the one that resumes it.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a worker"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
