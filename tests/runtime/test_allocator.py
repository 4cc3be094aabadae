"""Effects of the allocator's settings, each in a process started for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted by Linux")
def test_freed_memory_causes_no_page_faults_when_reused() -> None:
    # 16 MB is 4096 pages of 4 KiB: if returned to the system, each would fault once in every round. The heap
    # needs a few rounds to reach its size.
    program = (
        "import resource, torch\n"
        "from hkd.runtime.allocator import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): torch.ones(4_000_000)\n"
        "before = faults()\n"
        "for _ in range(20): torch.ones(4_000_000)\n"
        "print(faults() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4096


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").is_dir(), reason="a system without huge pages")
def test_heap_is_advised_to_use_huge_pages() -> None:
    # "hg" among the flags of the mapping that holds a tensor marks that advice in Linux. The system decides how many
    # huge pages it provides.
    program = (
        "import torch\n"
        "from hkd.runtime.allocator import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "address, flags = torch.ones(4_000_000).data_ptr(), []\n"
        "for line in open('/proc/self/smaps'):\n"
        "    first, _, last = line.split()[0].partition('-')\n"
        "    if last:\n"
        "        holds = int(first, 16) <= address < int(last, 16)\n"
        "    elif holds and first == 'VmFlags:':\n"
        "        flags = line.split()\n"
        "print(flags)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "'hg'" in done.stdout
