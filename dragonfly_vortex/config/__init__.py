"""
A peer's configuration: reads YAML into frozen, typed values.

``load_config`` reads a file, ``default_config`` needs none. Every key and every default is in
:mod:`dragonfly_vortex.config.model` or :mod:`dragonfly_vortex.config.content`. Nothing here knows what a value is used
for.
"""

from __future__ import annotations

from dragonfly_vortex.config.content import (
    DownloadConfig,
    DownloadServerConfig,
    DownloadTCPConfig,
    GCConfig,
    GCPolicyConfig,
    KeepaliveConfig,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
    TLSConfig,
    UploadClientConfig,
    UploadConfig,
    UploadServerConfig,
)
from dragonfly_vortex.config.loader import DEFAULT_FILE, LoadedConfig, beside, load_config
from dragonfly_vortex.config.model import (
    Config,
    DiscoveryConfig,
    HealthConfig,
    HealthServerConfig,
    HostConfig,
    LogConfig,
    LogFormat,
    MetricsConfig,
    MetricsServerConfig,
    SeedPeerConfig,
    StatusConfig,
    default_config,
)
from dragonfly_vortex.config.peer import (
    TLSIdentity,
    check_ports,
    client_tls,
    for_daemon,
    main_share,
    reloaded,
    scheduler_tls,
    server_tls,
    worker_share,
)
from dragonfly_vortex.config.setting import value_at

__all__ = [
    "DEFAULT_FILE",
    "Config",
    "DiscoveryConfig",
    "DownloadConfig",
    "DownloadServerConfig",
    "DownloadTCPConfig",
    "GCConfig",
    "GCPolicyConfig",
    "HealthConfig",
    "HealthServerConfig",
    "HostConfig",
    "KeepaliveConfig",
    "LoadedConfig",
    "LogConfig",
    "LogFormat",
    "MetricsConfig",
    "MetricsServerConfig",
    "SeedPeerConfig",
    "StatusConfig",
    "StorageConfig",
    "StorageServerConfig",
    "StorageTCPConfig",
    "TLSConfig",
    "TLSIdentity",
    "UploadClientConfig",
    "UploadConfig",
    "UploadServerConfig",
    "beside",
    "check_ports",
    "client_tls",
    "default_config",
    "for_daemon",
    "load_config",
    "main_share",
    "reloaded",
    "scheduler_tls",
    "server_tls",
    "value_at",
    "worker_share",
]
