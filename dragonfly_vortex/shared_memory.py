"""Memory that processes share: a file without a name whose descriptor they inherit."""

from __future__ import annotations

import os
import sys
import tempfile

from dragonfly_vortex.files import write_all
from dragonfly_vortex.system_calls import is_refused

__all__ = ["shared_memory"]


def shared_memory(name: str, content: bytes) -> int:
    """
    Make shared memory. The kernel frees it when no process has its descriptor or a mapping of it any more.

    :param name: shown in ``/proc``.
    :param content: what is in it at first; it stays as long as that.
    :returns: the descriptor.
    """
    descriptor = _memory_file(name)
    if descriptor is None:
        descriptor, path = tempfile.mkstemp(prefix=f"{name}-")
        os.unlink(path)
    write_all(descriptor, content)
    return descriptor


def _memory_file(name: str) -> int | None:
    """A file that is in memory alone; None where there is none."""
    if sys.platform != "linux":
        return None
    try:
        return os.memfd_create(name)
    except OSError as error:
        if not is_refused(error):
            raise
        return None
