"""
The keys of ``dfdaemon.yaml``, the reference's configuration: data, and nothing else.

Read from dragonfly-client 1.5.1, dragonfly-client-config/src/dfdaemon.rs (and the rate limiter of
dragonfly-client-util/src/ratelimiter/bbr.rs), from the earlier versions of that file, and from the configuration
reference of d7y.io. Keys that earlier releases had and keys that are only documented are here too, because files in use
have them; the reference ignores such keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeAlias

__all__ = ["DFDAEMON_KEYS", "MOVED_KEYS", "NOTES", "Free", "Keys", "Known"]


class Free(Enum):
    """What stands under a key where there are no further names to know."""

    VALUE = "a value, or a list of values"
    MAPPING = "keys and values of the user's own"


Keys: TypeAlias = "Mapping[str, Known]"
"""The names that a section knows; where a key holds a list of sections, the names that each of them knows."""

Known: TypeAlias = "Free | Keys"

_VALUE = Free.VALUE


def _values(*names: str) -> dict[str, Known]:
    """Name keys with values."""
    return dict.fromkeys(names, _VALUE)


_CERTIFICATES = _values("caCert", "cert", "key")
_LISTENER = _values("ip", "port")
_REQUEST_LIMITS = _values("requestRateLimit", "requestBufferSize")

DFDAEMON_KEYS: Keys = {
    "host": _values("idc", "location", "hostname", "ip", "schedulerClusterID"),
    "server": {
        **_values("pluginDir", "cacheDir"),
        "adaptiveRateLimit": _values(
            "bucketCount", "bucketInterval", "cpuThreshold", "memoryThreshold", "shedCooldown", "collectInterval"
        ),
    },
    "download": {
        "server": {**_values("socketPath"), **_REQUEST_LIMITS},
        **_values("protocol", "bandwidthLimit", "backToSourceBandwidthLimit"),
        **_values("pieceTimeout", "collectedPieceTimeout", "concurrentPieceCount"),
        # Of earlier releases.
        **_values("rateLimit"),
        "parentSelector": _values("enable", "syncInterval", "timeout", "capacity"),
    },
    "upload": {
        # The protocol is of earlier releases.
        "server": {**_LISTENER, **_CERTIFICATES, **_REQUEST_LIMITS, **_values("protocol")},
        "client": _CERTIFICATES,
        **_values("disableShared", "bandwidthLimit"),
        # Of earlier releases.
        **_values("rateLimit"),
    },
    # The addresses are of earlier releases.
    "manager": {**_values("addr", "addrs"), **_CERTIFICATES},
    "scheduler": {
        **_values("announceInterval", "scheduleTimeout", "maxScheduleCount"),
        **_CERTIFICATES,
        # Of earlier releases.
        **_values("enableBackToSource", "cooldownInterval", "maxAttempts", "refreshThreshold"),
    },
    "seedPeer": {
        **_values("enable", "type"),
        # Of earlier releases.
        **_values("clusterID", "keepaliveInterval"),
        # Only documented.
        "server": _values("tcpPort", "quicPort"),
    },
    "dynconfig": _values("refreshInterval"),
    "storage": {
        "server": _values("ip", "tcpPort", "tcpFastopen", "quicPort"),
        **_values("dir", "keep", "writePieceTimeout", "writeBufferSize", "readBufferSize", "cacheCapacity"),
        # Only documented.
        **_values("writebackMode"),
        # Of earlier releases.
        **_values("cacheTasksCapacity"),
    },
    "backend": {
        "requestHeader": Free.MAPPING,
        **_values("maxRetries", "enableCacheTemporaryRedirect", "cacheTemporaryRedirectTTL", "enableHickoryDNS"),
        **_values("putConcurrentChunkCount", "putChunkSize", "putTimeout"),
        # Of earlier releases.
        **_values("cacheTemporaryRedirectMaxSize"),
    },
    "gc": {
        **_values("interval"),
        "policy": {
            **_values("taskTTL", "persistentTaskTTL", "persistentCacheTaskTTL", "pageCacheIdleTimeout"),
            **_values("diskThreshold", "diskHighThresholdPercent", "diskLowThresholdPercent"),
            # The reference's other spelling of the same.
            **_values("distThreshold", "distHighThresholdPercent", "distLowThresholdPercent"),
        },
    },
    "proxy": {
        "server": {
            **_LISTENER,
            **_values("requestRateLimit", "caCert", "caKey"),
            "basicAuth": _values("username", "password"),
        },
        # The policy is only documented.
        "rules": _values("regex", "useTLS", "redirect", "filteredQueryParams", "schedulingPolicy"),
        # The certificates are of earlier releases.
        "registryMirror": _values("addr", "cert", "certs", "enableTaskIDBasedBlobDigest"),
        **_values("disableBackToSource", "prefetch", "prefetchBandwidthLimit", "readBufferSize"),
        # Of earlier releases.
        **_values("prefetchRateLimit", "cacheCapacity"),
    },
    "security": _values("enable"),
    "health": {"server": _LISTENER},
    "metrics": {"server": _LISTENER},
    "stats": {"server": _LISTENER},
    "tracing": {
        **_values("protocol", "endpoint", "path"),
        "headers": Free.MAPPING,
        # Of earlier releases.
        **_values("addr", "flamegraph"),
    },
    # The other version is only documented.
    "network": _values("enableIPv6", "enableIPv4"),
    # Of earlier releases.
    "verbose": _VALUE,
    "log": _values("level"),
}
"""Every key, in the reference's spelling."""

MOVED_KEYS: Mapping[str, str] = {
    "storage.server.tcp_port": "storage.server.tcp.port",
    "storage.server.tcp_fastopen": "storage.server.tcp.fastopen",
}
"""Keys of the reference that have another place in our tree, both in our spelling."""

NOTES: Mapping[str, str] = {
    "download.rate_limit": "earlier name of bandwidthLimit, and not taken for it",
    "storage.keep": "content is kept over a restart in any case, nothing is deleted",
    "upload.rate_limit": "earlier name of bandwidthLimit, and not taken for it",
}
"""What to know of a key that is accepted and not used, in our spelling."""
