"""Compares two configurations: which changes a running peer takes, and which need a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dragonfly_vortex.config.model import Config
from dragonfly_vortex.config.setting import fields_of
from dragonfly_vortex.config.tls_files import server_tls

__all__ = ["reloaded"]


def reloaded(running: Config, new: Config) -> tuple[Config, tuple[str, ...]]:
    """
    Take from a new configuration what can change while a peer runs: ``upload.bandwidth_limit``, ``shutdown_timeout``,
    ``storage.server.tcp.max_connections`` and ``idle_timeout``, the files for TLS, and ``download``. That holds for the
    downloads that begin from then on, but for ``server`` and ``concurrent_task_count``. TLS cannot be turned on or off,
    nor can clients be asked for certificates that were not asked before, or the reverse.

    :param running: what the peer runs with.
    :param new: what it is to run with.
    :returns: what it can run with, and the dotted keys of what holds from the next start on.
    """
    door, new_tcp = running.storage.server, new.storage.server.tcp
    tcp = replace(door.tcp, max_connections=new_tcp.max_connections, idle_timeout=new_tcp.idle_timeout)
    upload = replace(running.upload, bandwidth_limit=new.upload.bandwidth_limit)
    storage = replace(running.storage, server=replace(door, tcp=tcp))
    download = replace(
        new.download,
        server=running.download.server,
        concurrent_task_count=running.download.concurrent_task_count,
    )
    taken = replace(running, shutdown_timeout=new.shutdown_timeout, download=download, upload=upload, storage=storage)
    if _kind_of_tls(running) == _kind_of_tls(new):
        theirs = new.upload.server
        server = replace(upload.server, cert=theirs.cert, key=theirs.key, ca_cert=theirs.ca_cert)
        taken = replace(taken, tls=new.tls, upload=replace(upload, server=server, client=new.upload.client))
    return taken, tuple(_differences(taken, new))


def _kind_of_tls(config: Config) -> tuple[bool, bool]:
    """Whether a peer speaks TLS, and whether its clients must show certificates."""
    identity = server_tls(config)
    return identity is not None, identity is not None and identity.authority is not None


def _differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """The dotted keys whose values differ."""
    for name, kind, _ in fields_of(type(one)):
        mine, theirs = getattr(one, name), getattr(other, name)
        if isinstance(kind, type):
            yield from _differences(mine, theirs, f"{path}{name}.")
        elif mine != theirs:
            yield path + name
