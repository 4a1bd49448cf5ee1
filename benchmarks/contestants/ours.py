"""This package: the daemon and the command, over each transport, and its pieces alone by a small program."""

from __future__ import annotations

from benchmarks.contestant import Contestant, Parent

__all__ = ["CONTESTANTS", "GRPC", "PIECES", "TCP"]

_DAEMON = "twistd -n --pidfile= dfvortex --config $turn/parent.yaml"

_DOWNLOAD = "dfvortex download $task_id --concurrency $concurrency --output $turn/output"

_UNSYNCED = f"{_DOWNLOAD} --no-sync"
"""As all others do: the time ends when the bytes are in the page cache, not when they are on the disk."""

PIECES = (
    "python -m benchmarks.programs.pieces $task_id --concurrency $concurrency --output $turn/output"
    " --content-length $content_length --piece-length $piece_length --parent 127.0.0.1:$port"
)
"""The child that verifies pieces, and not the whole file."""


def _config(protocol: str, certificate: str = "") -> str:
    """
    The configuration of a parent with one door: neither process has the other transport in its memory. There is a page
    of metrics as ever, at a port that no other peer of this machine has.
    """
    return (
        "storage:\n"
        "  dir: $task/storage\n"
        f"  server: {{protocol: {protocol}, ip: 127.0.0.1, tcp: {{port: $port}}}}\n"
        f"upload: {{server: {{ip: 127.0.0.1, port: $port{certificate}}}}}\n"
        "metrics: {server: {ip: 127.0.0.1, port: 0}}\n"
    )


TCP = Parent(command=_DAEMON, says="serving Vortex on ", files={"parent.yaml": _config("tcp")})
GRPC = Parent(command=_DAEMON, says="serving gRPC on ", files={"parent.yaml": _config("grpc")})
_TLS = Parent(
    command=_DAEMON,
    says="serving Vortex on ",
    files={"parent.yaml": _config("tcp", ", cert: $run/certificate.pem, key: $run/key.pem")},
)

CONTESTANTS = (
    Contestant(
        name="tcp",
        title="ours, TCP",
        group="file",
        parent=TCP,
        child=(f"{_UNSYNCED} --parent tcp://127.0.0.1:$port --protocol tcp",),
    ),
    Contestant(
        name="grpc",
        title="ours, gRPC",
        group="file",
        parent=GRPC,
        child=(f"{_UNSYNCED} --parent grpc://127.0.0.1:$port --protocol grpc",),
    ),
    Contestant(
        name="tls",
        title="ours, TCP under TLS",
        group="file",
        parent=_TLS,
        child=(f"{_UNSYNCED} --parent tls://127.0.0.1:$port --protocol tcp --config $turn/child.yaml",),
        files={"child.yaml": "tls: {ca_cert: $run/certificate.pem}\n"},
    ),
    Contestant(
        name="tcp-synced",
        title="ours, TCP, and until it is on the disk",
        group="file",
        parent=TCP,
        child=(f"{_DOWNLOAD} --parent tcp://127.0.0.1:$port --protocol tcp",),
    ),
    Contestant(
        name="tcp-pieces",
        title="ours from ours, TCP",
        group="pieces",
        parent=TCP,
        child=(f"{PIECES} --protocol tcp",),
    ),
    Contestant(
        name="grpc-pieces",
        title="ours from ours, gRPC",
        group="pieces",
        parent=GRPC,
        child=(f"{PIECES} --protocol grpc",),
    ),
)
