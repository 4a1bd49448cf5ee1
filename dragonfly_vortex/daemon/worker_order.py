"""
The settings that a worker gets from the main process through a pipe. Other users could read arguments or an
environment.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from dragonfly_vortex.config import Config, beside, worker_share

__all__ = ["COUNTS", "LISTENING", "TALLIES", "Order", "orders"]

LISTENING = 3
"""The descriptor of the listening socket in a worker."""

COUNTS = 4
"""The descriptor of the memory by which the workers know whose turn it is to accept."""

TALLIES = 5
"""The descriptor of the memory in which the workers count what they send."""


class Order(Struct, frozen=True, kw_only=True):
    """
    The settings of one worker.

    :param number: of the worker, from 1.
    :param config: what it has of the peer's; see :func:`~dragonfly_vortex.config.worker_share`.
    """

    number: int
    config: Config

    def to_bytes(self) -> bytes:
        """
        Write it for a process that runs the same code. These are values and not the file that they came from, which may
        have changed when a worker is started again.
        """
        return pickle.dumps(self)

    @classmethod
    def read(cls, pipe: BinaryIO) -> Order:
        """
        Read an order, and nothing behind it.

        :raises EOFError: the main process ended before it wrote one.
        """
        order: Order = pickle.load(pipe)  # the other end is the process that started this one
        return order


def orders(config: Config, directory: Path) -> list[Order]:
    """
    The settings of all workers of a peer.

    :param config: the peer's.
    :param directory: what its paths are relative to, where they are. A program may change its working directory before
        a worker is started again.
    """
    absolute = beside(directory, config)
    numbers = range(1, config.storage.server.workers + 1)
    return [Order(number=number, config=worker_share(absolute, number)) for number in numbers]
