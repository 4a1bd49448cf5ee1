"""Pieces over Vortex/TCP: the design document's ``TCPDownloader``, the pool over the client and little else."""

from __future__ import annotations

from dragonfly_vortex.downloaders.pooled import PooledDownloader

__all__ = ["TCPDownloader"]


class TCPDownloader(PooledDownloader):
    """
    Fetch pieces from any parent over TCP: its pool has a :class:`~dragonfly_vortex.vortex.client.TCPClient` for each.
    """
