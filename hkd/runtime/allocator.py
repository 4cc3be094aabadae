"""Settings of glibc's allocator for training on a CPU."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from pathlib import Path

import torch

from hkd.runtime.memory import machine_bytes

# glibc's parameters of mallopt(3), and the values that disable trimming and keep blocks of any size on the heap; older
# versions accept at most 32 MB for the latter.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_NEVER = -1
_MMAP_THRESHOLDS = ((1 << 31) - 1, 32 << 20)
# Linux's madvise(2).
_MADV_HUGEPAGE = 14
_CHUNK_BYTES = 1 << 30
_MAX_CHUNKS = 8
# Fraction of the machine's memory by which the heap's address space may grow.
_RESERVED_FRACTION = 0.25
_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
_NO_OVERCOMMIT = "2"


def keep_freed_memory() -> None:
    """Make this process keep the memory that it frees for reuse, in pages of 2 MB.

    A step on a CPU allocates and frees the same large tensors each time. By default glibc returns such blocks to the
    system at once, which has to zero them again: some 19,000 page faults a step, about a tenth of its time. Another
    twentieth is spent on translating addresses in 4 kB pages. Does nothing where libc is not glibc. Memory returned by
    :func:`release_memory` comes back in small pages, until the next call of this function.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    if any(libc.mallopt(_M_MMAP_THRESHOLD, threshold) for threshold in _MMAP_THRESHOLDS):
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
        _advise_huge_pages(libc)


def release_memory(device: torch.device) -> None:
    """Return cached free memory of this process to the system or, on a GPU, to other processes."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform.startswith("linux"):
        # What keep_freed_memory keeps; only glibc has it.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _advise_huge_pages(libc: ctypes.CDLL) -> None:
    """Reserve address space for the heap and advise the system to back it with huge pages when it is used.

    Does nothing where address space is limited, because the reservation would count against that limit. The reservation
    is bounded by a fraction of the machine's memory, because a heap larger than that memory could not be forked.
    """
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return
    try:
        if _OVERCOMMIT.read_text(encoding="ascii").strip() == _NO_OVERCOMMIT:
            return
    except OSError:
        return
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    count = min(_MAX_CHUNKS, int(_RESERVED_FRACTION * machine_bytes()) // _CHUNK_BYTES)
    chunks = [chunk for chunk in (libc.malloc(_CHUNK_BYTES) for _ in range(count)) if chunk]
    for chunk in chunks:
        before = chunk % resource.getpagesize()  # on the chunk's first page, which is the heap's as well
        libc.madvise(chunk - before, before + _CHUNK_BYTES, _MADV_HUGEPAGE)
    for chunk in chunks:
        libc.free(chunk)
