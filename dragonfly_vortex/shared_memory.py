"""Memory that processes share: a file without a name, whose descriptor they inherit."""

from __future__ import annotations

import os
import sys
import tempfile

__all__ = ["shared_memory"]


def shared_memory(name: str, content: bytes) -> int:
    """
    Make it. It is gone when nobody has its descriptor, or a mapping of it, any more, however the processes end.

    :param name: for whoever looks at a process from outside.
    :param content: what is in it at first; it stays as long as that.
    :returns: the descriptor.
    """
    if sys.platform == "linux":
        descriptor = os.memfd_create(name)
    else:
        descriptor, path = tempfile.mkstemp(prefix=f"{name}-")
        os.unlink(path)
    os.write(descriptor, content)
    return descriptor
