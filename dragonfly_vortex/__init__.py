"""
Dragonfly's Vortex protocol for Twisted: serve pieces of files to other peers, and fetch theirs, over TCP and gRPC.

The names in ``__all__`` are the public ones, with those of :mod:`dragonfly_vortex.events`,
:mod:`dragonfly_vortex.wire` and :mod:`dragonfly_vortex.testing`. A release may change any other name without notice.

A name is loaded when it is first asked for: ``import dragonfly_vortex`` loads no Twisted, and so
``import dragonfly_vortex.wire`` does without it.
"""

from __future__ import annotations

# A type checker takes it for typing's; to import typing takes as long as Python itself takes to start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from dragonfly_vortex.clock import use_monotonic_clock
    from dragonfly_vortex.config import Config, default_config, load_config
    from dragonfly_vortex.daemon.peer import VortexPeer
    from dragonfly_vortex.daemon.service import VortexService
    from dragonfly_vortex.daemon.task_handle import Download
    from dragonfly_vortex.downloaders.factory import DownloaderFactory
    from dragonfly_vortex.downloaders.pooled import GRPCDownloader, TCPDownloader
    from dragonfly_vortex.errors import (
        ConfigError,
        InvalidPiece,
        NotStored,
        ParentFailed,
        ParentUnreachable,
        PieceError,
        PieceNotFound,
        PieceTimeout,
        StorageError,
        VortexError,
    )
    from dragonfly_vortex.interfaces import (
        DownloadPieceRequest,
        IClient,
        IDownloader,
        IFileSink,
        IPieceSink,
        IPieceStore,
        IServer,
    )
    from dragonfly_vortex.model import DownloadPieceResponse, FileRange, OpenPiece
    from dragonfly_vortex.storage.reactor.store import PieceStore
    from dragonfly_vortex.task.download import TaskDownload
    from dragonfly_vortex.transport.ratelimit import UploadLimiter
    from dragonfly_vortex.transport.readahead import ReadAhead
    from dragonfly_vortex.transport.send_file import send_file
    from dragonfly_vortex.transport.sinks import FileSink
    from dragonfly_vortex.transport.tls_endpoint import TLSServerEndpoint
    from dragonfly_vortex.vortex.client import TCPClient
    from dragonfly_vortex.vortex.client_protocol import ClientSettings
    from dragonfly_vortex.vortex.connections import ConnectionRegistry, ServerSettings
    from dragonfly_vortex.vortex.server import TCPServer, VortexServerFactory
    from dragonfly_vortex.wire import PieceKind, Vortex

__all__ = [
    "ClientSettings",
    "Config",
    "ConfigError",
    "ConnectionRegistry",
    "Download",
    "DownloadPieceRequest",
    "DownloadPieceResponse",
    "DownloaderFactory",
    "FileRange",
    "FileSink",
    "GRPCDownloader",
    "IClient",
    "IDownloader",
    "IFileSink",
    "IPieceSink",
    "IPieceStore",
    "IServer",
    "InvalidPiece",
    "NotStored",
    "OpenPiece",
    "ParentFailed",
    "ParentUnreachable",
    "PieceError",
    "PieceKind",
    "PieceNotFound",
    "PieceStore",
    "PieceTimeout",
    "ReadAhead",
    "ServerSettings",
    "StorageError",
    "TCPClient",
    "TCPDownloader",
    "TCPServer",
    "TLSServerEndpoint",
    "TaskDownload",
    "UploadLimiter",
    "Vortex",
    "VortexError",
    "VortexPeer",
    "VortexServerFactory",
    "VortexService",
    "__version__",
    "default_config",
    "load_config",
    "send_file",
    "use_monotonic_clock",
]

__version__ = "0.1.0"

_MODULES = {
    "clock": ("use_monotonic_clock",),
    "config": ("Config", "default_config", "load_config"),
    "downloaders.factory": ("DownloaderFactory",),
    "downloaders.pooled": ("GRPCDownloader", "TCPDownloader"),
    "errors": (
        *("ConfigError", "InvalidPiece", "NotStored", "ParentFailed", "ParentUnreachable", "PieceError"),
        *("PieceNotFound", "PieceTimeout", "StorageError", "VortexError"),
    ),
    "interfaces": (
        *("DownloadPieceRequest", "IClient", "IDownloader", "IFileSink", "IPieceSink", "IPieceStore", "IServer"),
    ),
    "model": ("DownloadPieceResponse", "FileRange", "OpenPiece"),
    "vortex.client": ("TCPClient",),
    "vortex.client_protocol": ("ClientSettings",),
    "vortex.connections": ("ConnectionRegistry", "ServerSettings"),
    "vortex.server": ("TCPServer", "VortexServerFactory"),
    "daemon.peer": ("VortexPeer",),
    "daemon.service": ("VortexService",),
    "daemon.task_handle": ("Download",),
    "storage.reactor.store": ("PieceStore",),
    "task.download": ("TaskDownload",),
    "transport.ratelimit": ("UploadLimiter",),
    "transport.readahead": ("ReadAhead",),
    "transport.send_file": ("send_file",),
    "transport.sinks": ("FileSink",),
    "transport.tls_endpoint": ("TLSServerEndpoint",),
    "wire": ("PieceKind", "Vortex"),
}
"""Where each public name is defined. The imports above say the same to a type checker; a test compares the two."""


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for."""
    from importlib import import_module

    for module, names in _MODULES.items():
        if name in names:
            value = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names with the module's own."""
    return sorted({*globals(), *__all__})
