"""Pieces over gRPC: the design document's ``GRPCDownloader``, the same pool over another client."""

from __future__ import annotations

from dragonfly_vortex.downloaders.pooled import PooledDownloader

__all__ = ["GRPCDownloader"]


class GRPCDownloader(PooledDownloader):
    """
    Fetch pieces from any parent over gRPC: its pool has a :class:`~dragonfly_vortex.rpc.client.GRPCClient` for each.
    """
