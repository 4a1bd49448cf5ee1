"""
Free memory that is there. A virtual machine's free memory may be with its host, who gives it back page by page as it
is written: a program that writes a new file then waits for the host, and which program that is, is chance. Hosts are
given memory back in large pages, and what a file needs in large pages meets it most: so large ones are used here, too.
"""

from __future__ import annotations

import contextlib
import mmap

__all__ = ["have_free_memory"]


def have_free_memory(length: int) -> None:
    """
    Use memory and let go of it, so that it is free, and there, for whoever comes next.

    :param length: in bytes.
    """
    with mmap.mmap(-1, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without large pages
                memory.madvise(mmap.MADV_HUGEPAGE)
        pages = range(0, length, mmap.PAGESIZE)
        memory[:: mmap.PAGESIZE] = bytes(len(pages))
