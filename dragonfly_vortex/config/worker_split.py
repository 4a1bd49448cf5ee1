"""
Divides a peer's limits among its workers, so that their sum is the configured limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dragonfly_vortex.config.model import Config
from dragonfly_vortex.transport_table import ALL, transports_named

__all__ = ["main_share", "unshareable", "worker_share"]


def worker_share(config: Config, number: int) -> Config:
    """
    The configuration of one worker: it serves as one process, by the transport that has workers alone, within its part
    of the limits. The main process serves the metrics of all, and advertises the peer.

    :param config: the peer's.
    :param number: of the worker, from 1.
    """
    server = config.storage.server
    tcp = replace(server.tcp, max_connections=_parts(server.tcp.max_connections, server.workers)[number - 1])
    protocol = next(each.name for each in transports_named(ALL) if each.has_workers)
    server = replace(server, protocol=protocol, workers=1, tcp=tcp)
    upload = replace(config.upload, bandwidth_limit=_bandwidths(config)[number - 1])
    return replace(
        config,
        storage=replace(config.storage, server=server),
        upload=upload,
        metrics=replace(config.metrics, enable=False),
        discovery=replace(config.discovery, enable=False),
    )


def main_share(config: Config) -> Config:
    """
    The part of the limits that the main process keeps: all where it has no workers, otherwise, for the doors that it
    serves itself, as much of the bandwidth as a worker has.
    """
    return replace(config, upload=replace(config.upload, bandwidth_limit=_bandwidths(config)[-1]))


def unshareable(config: Config) -> Iterator[tuple[str, str]]:
    """
    Find limits that are too small to be shared out.

    :returns: the key to blame, and what is wrong.
    """
    server = config.storage.server
    if server.workers > server.tcp.max_connections:
        reason = f"expected at most one worker for each of {server.tcp.max_connections} connections (max_connections)"
        yield "storage.server.workers", f"{reason}; got {server.workers}"
    elif _senders(config) > config.upload.bandwidth_limit:
        reason = "expected a byte per second for each worker and the main process (upload.bandwidth_limit)"
        yield "storage.server.workers", f"{reason}; got {server.workers} for {config.upload.bandwidth_limit}"


def _senders(config: Config) -> int:
    """How many processes send content. A main process with workers has the doors that they do not open."""
    server = config.storage.server
    in_workers = {each.has_workers for each in transports_named(server.protocol)}
    if server.workers == 1 or True not in in_workers:
        return 1
    return server.workers + len(in_workers - {True})


def _bandwidths(config: Config) -> list[int]:
    """The senders' parts of the bandwidth, the main process's last where it is one."""
    return _parts(config.upload.bandwidth_limit, _senders(config))


def _parts(total: int, count: int) -> list[int]:
    """Share out a whole number; what remains goes to the first, one each."""
    each, more = divmod(total, count)
    return [each + (number < more) for number in range(count)]
