"""The processor of this machine."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Final

_DESCRIPTION: Final = Path("/proc/cpuinfo")


def processor_name() -> str:
    """As the kernel reports it; off Linux, as the platform does."""
    try:
        found = re.search(r"^model name\s*:(.*)$", _DESCRIPTION.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found is not None else platform.processor() or platform.machine()
