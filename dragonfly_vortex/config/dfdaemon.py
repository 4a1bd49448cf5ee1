"""
The keys of ``dfdaemon.yaml``, the reference's configuration, as data; and the two spellings of a key: ours in snake
case, and the reference's in camel case.

Read from dragonfly-client 1.5.10, dragonfly-client-config/src/dfdaemon.rs, from the earlier versions of that file, from
the configuration reference of d7y.io, from Dragonfly's Helm chart 1.7.4 and from its templates for docker-compose. Keys
that earlier releases had and keys that are only documented are here too, because files in use have them; the reference
skips such keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from typing import TypeAlias

__all__ = [
    "DFDAEMON_KEYS",
    "MOVED_KEYS",
    "NEVER",
    "NOTES",
    "REPLACED_VALUES",
    "Keys",
    "camel_case",
    "snake_case",
    "spellings",
]

_WORD_BOUNDARY = (
    r"(?<=[a-z0-9])(?=[A-Z])"  # pieceTimeout: piece, Timeout
    r"|(?<=[A-Z])(?=[A-Z][a-z]{2})"  # taskIDBased: ID, Based; but enableIPv6 stays IPv6
)


def camel_case(name: str) -> str:
    """
    Convert a key to the spelling of the reference.

    :param name: such as ``piece_timeout``.
    :returns: such as ``pieceTimeout``.
    """
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def snake_case(name: str) -> str:
    """
    Convert a key to the spelling of this package.

    :param name: such as ``persistentTaskTTL``.
    :returns: such as ``persistent_task_ttl``.
    """
    return re.sub(_WORD_BOUNDARY, "_", name).lower()


def spellings(names: Iterable[str]) -> dict[str, str]:
    """
    Map both spellings of each key to the key.

    :param names: the keys, each in either spelling.
    :returns: both spellings of every key, each leading to the key as it was given.
    """
    found: dict[str, str] = {}
    for name in names:
        found[snake_case(name)] = found[camel_case(name)] = found[name] = name
    return found


Keys: TypeAlias = "Mapping[str, Keys | None]"
"""
The keys of a section; under each the keys of the section that it opens, where that is a section of ours too. None: a
value, or a section of which nothing is used.
"""


def _values(*names: str) -> dict[str, Keys | None]:
    """Name keys under which there are no further names to know."""
    return dict.fromkeys(names)


_CERTIFICATES = _values("caCert", "cert", "key")
_LISTENER = _values("ip", "port")

DFDAEMON_KEYS: Keys = {
    "host": _values("idc", "location", "hostname", "ip", "schedulerClusterID"),
    "download": {
        # The Helm chart's spelling is the last one.
        "server": _values("socketPath", "requestRateLimit", "requestBufferSize", "requestbufferSize"),
        **_values("protocol", "bandwidthLimit", "backToSourceBandwidthLimit"),
        **_values("pieceTimeout", "collectedPieceTimeout"),
        **_values("concurrentPieceCount", "backToSourceConcurrentPieceCount"),
        # Of earlier releases.
        **_values("rateLimit", "parentSelector"),
    },
    "upload": {
        "server": {
            **_LISTENER,
            **_CERTIFICATES,
            **_values("requestRateLimit", "requestBufferSize"),
            # The Helm chart's spelling.
            **_values("requestbufferSize"),
            # Of earlier releases.
            **_values("protocol"),
        },
        "client": _CERTIFICATES,
        **_values("disableShared", "bandwidthLimit"),
        # Of earlier releases.
        **_values("rateLimit"),
    },
    "storage": {
        "server": _values("ip", "tcpPort", "tcpFastopen", "quicPort"),
        **_values("dir", "keep", "writePieceTimeout", "writeBufferSize", "readBufferSize", "cacheCapacity"),
        **_values("writebackMode"),
        # Of earlier releases.
        **_values("cacheTasksCapacity"),
    },
    "gc": {
        **_values("interval"),
        "policy": _values(
            *("taskTTL", "persistentTaskTTL", "persistentCacheTaskTTL", "pageCacheIdleTimeout", "diskThreshold"),
            *("diskHighThresholdPercent", "diskLowThresholdPercent"),
            # Other names of the last three.
            *("distThreshold", "distHighThresholdPercent", "distLowThresholdPercent"),
        ),
    },
    "metrics": {"server": _LISTENER},
    "health": {"server": _LISTENER},
    # The last two are of earlier releases.
    "seedPeer": _values("enable", "type", "clusterID", "keepaliveInterval"),
    "scheduler": {
        **_values("announceInterval", "scheduleTimeout", "maxScheduleCount"),
        **_CERTIFICATES,
        # Of earlier releases.
        **_values("enableBackToSource"),
    },
    "dynconfig": _values("refreshInterval"),
    **_values("server", "manager", "backend", "proxy", "security"),
    # In the templates for Helm and docker-compose; the reference's own level is an option of its command.
    "log": _values("level"),
    **_values("stats", "tracing", "network"),
    # Of earlier releases, and of the templates for Helm and docker-compose.
    **_values("verbose", "console"),
}
"""Every key, in the reference's spelling."""

MOVED_KEYS: Mapping[str, str] = {
    "gc.policy.dist_threshold": "gc.policy.disk_threshold",
    "gc.policy.dist_high_threshold_percent": "gc.policy.disk_high_threshold_percent",
    "gc.policy.dist_low_threshold_percent": "gc.policy.disk_low_threshold_percent",
    "storage.server.tcp_port": "storage.server.tcp.port",
    "storage.server.tcp_fastopen": "storage.server.tcp.fastopen",
}
"""Keys of the reference that have another place in our tree, both in our spelling."""

REPLACED_VALUES: Mapping[str, Mapping[str, str]] = {"download.protocol": {"quic": "auto"}}
"""Values of the reference that nothing here can be: for which setting, which, and what is used instead."""

NOTES: Mapping[str, str] = {
    "download.rate_limit": "earlier name of bandwidthLimit, and not taken for it",
    "storage.keep": "content is kept over a restart in any case",
    "upload.rate_limit": "earlier name of bandwidthLimit, and not taken for it",
}
"""What to know of a key that is accepted and not used, in our spelling."""

NEVER: Set[str] = frozenset(
    {
        # Schedulers do not read it.
        "host.schedulerClusterID",
        # A door serves a fixed number of calls at once, and refuses further ones. The last two are misspelt.
        *("download.server.requestRateLimit", "download.server.requestBufferSize"),
        *("upload.server.requestRateLimit", "upload.server.requestBufferSize"),
        *("download.server.requestbufferSize", "upload.server.requestbufferSize"),
        # Keys of earlier releases.
        *("download.rateLimit", "download.parentSelector", "upload.rateLimit", "upload.server.protocol"),
        *("storage.cacheTasksCapacity", "scheduler.enableBackToSource"),
        *("seedPeer.clusterID", "seedPeer.keepaliveInterval"),
        # Content is kept over a restart, written as it comes, and cached and sent by the system.
        *("storage.keep", "storage.writePieceTimeout", "storage.writeBufferSize", "storage.readBufferSize"),
        *("storage.cacheCapacity", "storage.writebackMode", "gc.policy.pageCacheIdleTimeout"),
        # Every seed is a super seed, as schedulers take it.
        "seedPeer.type",
        # Plugins and profiles of a program in Rust; certificates of a manager; addresses of both families are used.
        *("server", "stats", "security", "network"),
        # twistd writes the log.
        *("verbose", "console"),
    }
)
"""Keys that will not be used, in the reference's spelling. All others that are not used are not used yet."""
