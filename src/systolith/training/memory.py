"""Where a training step's memory comes from on a CPU."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep_memory() -> bool:
    """Have the C library keep a step's memory for the next one, in large pages; whether it does (glibc only).

    A step takes and frees gigabytes of maps. Left alone, malloc gives each large one back to the system and gets it
    again as pages that fault one by one, time that the step waits. To be called before torch allocates anything.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's own: large maps on large pages
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
