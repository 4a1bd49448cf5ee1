"""
This peer's part in a Dragonfly cluster: it announces itself and its tasks to schedulers, and asks them for parents.

:mod:`~dragonfly_vortex.cluster.membership` is what a daemon uses, where :func:`is_configured` says so. All other
modules but :mod:`~dragonfly_vortex.cluster.requests` load grpcio or the messages of its API.
"""

from __future__ import annotations

from dragonfly_vortex.config import Config

__all__ = ["is_configured"]


def is_configured(config: Config) -> bool:
    """Whether a configuration names schedulers: without them a peer is in no cluster."""
    return bool(config.scheduler.addrs) or config.dynconfig.file is not None
