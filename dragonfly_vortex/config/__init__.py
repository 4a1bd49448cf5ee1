"""
A peer's configuration: YAML to frozen, typed values.

``load_config`` reads a file, ``default_config`` needs none; every key and every default is in
:mod:`dragonfly_vortex.config.model`. Nothing here knows what a value is used for.
"""

from __future__ import annotations

from dragonfly_vortex.config.load import LoadedConfig, load_config
from dragonfly_vortex.config.model import (
    Config,
    DownloadConfig,
    DownloadTCPConfig,
    HostConfig,
    KeepaliveConfig,
    StorageConfig,
    StorageServerConfig,
    StorageTCPConfig,
    UploadConfig,
    default_config,
)

__all__ = [
    "Config",
    "DownloadConfig",
    "DownloadTCPConfig",
    "HostConfig",
    "KeepaliveConfig",
    "LoadedConfig",
    "StorageConfig",
    "StorageServerConfig",
    "StorageTCPConfig",
    "UploadConfig",
    "default_config",
    "load_config",
]
