"""
What a peer makes of its configuration: which ports it opens, which part of the limits each of its processes has, what
changes while it runs, and which certificates it shows and trusts: those of ``tls``, unless ``upload.server`` or
``upload.client`` name others.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from msgspec import Struct

from dragonfly_vortex.config.content import GCConfig, GCPolicyConfig, TLSConfig
from dragonfly_vortex.config.model import Config, HealthConfig
from dragonfly_vortex.config.setting import fields_of, value_at
from dragonfly_vortex.errors import PortGivenTwice
from dragonfly_vortex.transport_table import ALL, transports_named

__all__ = [
    "HEALTH_PORT",
    "TLSIdentity",
    "check_ports",
    "client_tls",
    "for_daemon",
    "incomplete",
    "main_share",
    "reloaded",
    "scheduler_tls",
    "server_tls",
    "surprises",
    "unreachable",
    "unshareable",
    "worker_share",
]


HEALTH_PORT = 4003
"""The port of the reference's page for probes."""


def for_daemon(config: Config) -> Config:
    """The configuration of a peer that is a program of its own: like the reference it has pages for probes."""
    health = config.health
    if health.server.port is not None:
        return config
    return replace(config, health=replace(health, server=replace(health.server, port=HEALTH_PORT)))


def check_ports(config: Config) -> None:
    """
    Refuse one port for two listeners. Port 0 is free for all, and so is one port at two addresses.

    :raises PortGivenTwice: two listeners cannot have their ports at once.
    """
    for (key, ip, port), (other, other_ip, other_port) in combinations(_listeners(config), 2):
        if port == other_port != 0 and _overlap(ip, other_ip):
            where = f"on {ip}" if ip == other_ip else f"on {ip} and {other_ip}, of which one includes the other"
            raise PortGivenTwice(f"{key} and {other}: expected two ports; got {port} for both, {where}")


def _listeners(config: Config) -> Iterator[tuple[str, str, int]]:
    """Yield what is listened on: the key of the port, the address and the port."""
    for transport in transports_named(config.storage.server.protocol):
        if transport.port_key:
            yield transport.port_key, value_at(config, transport.ip_key), value_at(config, transport.port_key)
    if config.metrics.enable:
        yield "metrics.server.port", config.metrics.server.ip, config.metrics.server.port
    if config.health.has_pages:
        yield "health.server.port", config.health.server.ip, config.health.server.port or 0


def _overlap(ip: str, other: str) -> bool:
    """Whether one port cannot be had at both addresses. On Linux ``::`` takes connections over IPv4, too."""
    addresses = [ipaddress.ip_address(ip), ipaddress.ip_address(other)]
    plain = {getattr(address, "ipv4_mapped", None) or address for address in addresses}
    if len(plain) == 1 or any(address.version == 6 and address.is_unspecified for address in plain):
        return True
    one_version = len({address.version for address in plain}) == 1
    return one_version and any(address.is_unspecified for address in plain)


def worker_share(config: Config, number: int) -> Config:
    """
    The configuration of one worker: it serves as one process, by the transport that has workers alone, within its part
    of the limits. The main process serves the metrics of all and the pages for probes, advertises the peer, and removes
    tasks from the storage.

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
        health=HealthConfig(),
        gc=replace(config.gc, enable=False),
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


def unreachable(config: GCConfig) -> Iterator[tuple[str, str]]:
    """
    Find a lower threshold above the higher one.

    :returns: the key to blame, which the file has, and what is wrong.
    """
    high, low = config.policy.disk_high_threshold_percent, config.policy.disk_low_threshold_percent
    if low > high:
        is_low_given = low != GCPolicyConfig().disk_low_threshold_percent
        key = f"gc.policy.disk_{'low' if is_low_given else 'high'}_threshold_percent"
        yield (
            key,
            f"expected disk_low_threshold_percent to be at most disk_high_threshold_percent; got {low} and {high}",
        )


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


def reloaded(running: Config, new: Config) -> tuple[Config, tuple[str, ...]]:
    """
    Take from a new configuration what can change while a peer runs: ``upload.bandwidth_limit``, ``shutdown_timeout``,
    ``storage.server.tcp.max_connections`` and ``idle_timeout``, ``log.level``, the files for TLS, ``gc`` but for
    ``gc.enable``, and ``download``. That holds for the downloads that begin from then on, but for ``server`` and
    ``concurrent_task_count``. TLS cannot be turned on or off, nor can clients be asked for certificates that were not
    asked before, or the reverse.

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
    taken = replace(
        running,
        shutdown_timeout=new.shutdown_timeout,
        download=download,
        upload=upload,
        storage=storage,
        gc=replace(new.gc, enable=running.gc.enable),
        log=replace(running.log, level=new.log.level),
    )
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


# -- files for TLS


class TLSIdentity(Struct, frozen=True, kw_only=True):
    """
    The files that one side of a connection needs, all in PEM; they are not read here. A certificate and its key come
    from one section, the authority can come from another.

    :param certificate: what it shows of itself, with what leads to an authority; None: it shows nothing.
    :param key: the certificate's private key; None exactly where there is no certificate.
    :param authority: the authorities that must have signed the other side's certificate. None: a server asks for no
        certificate; a client trusts the platform's authorities.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None


def server_tls(config: Config) -> TLSIdentity | None:
    """
    The TLS files of this peer as a parent, for all doors.

    :returns: always with a certificate; None where it speaks no TLS.
    """
    identity = _identity(config.upload.server, config.tls)
    return identity if identity.certificate is not None else None


def client_tls(config: Config) -> TLSIdentity:
    """The TLS files of this peer as a child, for parents whose addresses name TLS."""
    return _identity(config.upload.client, config.tls)


def scheduler_tls(config: Config) -> TLSIdentity | None:
    """
    The TLS files that this peer uses with schedulers.

    :returns: None where it speaks no TLS with them: as in the reference, it does where all three files are given.
    """
    section = config.scheduler
    if section.cert is None or section.key is None or section.ca_cert is None:
        return None
    return TLSIdentity(certificate=section.cert, key=section.key, authority=section.ca_cert)


def incomplete(config: Config) -> Iterator[tuple[str, str]]:
    """
    Find files for TLS that need another one, which is not configured.

    :returns: keys, dotted and in our spelling, and what is wrong with each.
    """
    sections = {"tls": config.tls, "upload.server": config.upload.server, "upload.client": config.upload.client}
    for name, section in sections.items():
        if section.cert is not None and section.key is None:
            yield f"{name}.cert", f"expected {name}.key beside it, the certificate's private key; got none"
        if section.key is not None and section.cert is None:
            yield f"{name}.key", f"expected {name}.cert beside it, the key's certificate; got none"
    if config.upload.server.ca_cert is not None and server_tls(config) is None:
        reason = "expected upload.server.cert and upload.server.key beside it, or those of tls; got none"
        yield "upload.server.ca_cert", f"{reason}, and without them there is no TLS"


def surprises(config: Config) -> Iterator[str]:
    """Find settings that do less than they seem to."""
    if config.tls.ca_cert is not None and server_tls(config) is None:
        yield "tls.ca_cert is for parents alone: without tls.cert and tls.key this peer serves without TLS"
    section = config.scheduler
    if scheduler_tls(config) is None and (section.cert or section.key or section.ca_cert):
        yield "scheduler: without all of caCert, cert and key, schedulers are spoken to without TLS"


def _identity(own: TLSConfig, common: TLSConfig) -> TLSIdentity:
    shown = own if own.cert is not None else common
    authority = own.ca_cert if own.ca_cert is not None else common.ca_cert
    return TLSIdentity(certificate=shown.cert, key=shown.key, authority=authority)
