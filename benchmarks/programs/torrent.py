"""
``python -m benchmarks.programs.torrent``: a peer of libtorrent.

``swarm`` is a peer of a swarm with a fixed list of peers, for :func:`benchmarks.processes.run_together`; the last line
of its output is the bytes of pieces that it has sent. ``serve`` writes the torrent and has the file; ``fetch`` reads
the torrent, and ends when it has all pieces, each verified by its SHA-1.

All ways to find peers, uTP and encryption are off, so that nothing but the transfer takes time. The limit holds for
peers of the same machine too, and counts the bytes of pieces and not those of IP headers.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks.processes import DONE, READY

__all__ = ["make_torrent"]

_HOST = "127.0.0.1"


def make_torrent(source: Path, piece_length: int, torrent: Path) -> None:
    """
    Write the torrent of a file.

    :param piece_length: bytes of every piece but the last.
    """
    import libtorrent

    files = libtorrent.list_files(str(source))
    made = libtorrent.create_torrent(files, piece_length, libtorrent.create_torrent.v1_only)
    libtorrent.set_piece_hashes(made, str(source.parent))
    torrent.write_bytes(libtorrent.bencode(made.generate()))


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs.torrent")
    parser.add_argument("role", choices=("swarm", "serve", "fetch"))
    parser.add_argument("torrent", type=Path)
    parser.add_argument("file", type=Path, help="that is there, or is to be written")
    parser.add_argument("--port", type=int, required=True, help="where the file is served")
    parser.add_argument("--upload-limit", metavar="BYTES", type=int, default=0, help="a second; 0 for no limit")
    parser.add_argument("--piece-length", metavar="BYTES", type=int)
    parser.add_argument("--peer", metavar="PORT", type=int, action="append", default=[])
    given = parser.parse_args()
    if given.role == "serve":
        make_torrent(given.file, given.piece_length, given.torrent)
    {"swarm": _swarm, "serve": _serve, "fetch": _fetch}[given.role](given)


def _session(port: int, upload_limit: int) -> Any:
    import libtorrent

    return libtorrent.session(
        {
            "listen_interfaces": f"{_HOST}:{port}",
            "upload_rate_limit": upload_limit,
            "ignore_limits_on_local_network": False,
            "rate_limit_ip_overhead": False,
            "allow_multiple_connections_per_ip": True,
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_outgoing_utp": False,
            "enable_incoming_utp": False,
            "in_enc_policy": 2,
            "out_enc_policy": 2,
        }
    )


def _add(session: Any, given: argparse.Namespace, *, is_trusted: bool = False) -> Any:
    """Add the torrent to a session; with ``is_trusted`` the file is there, and is not read before it is asked for."""
    import libtorrent

    parameters = libtorrent.add_torrent_params()
    parameters.ti = libtorrent.torrent_info(str(given.torrent))
    parameters.ti.rename_file(0, given.file.name)
    parameters.save_path = str(given.file.parent)
    parameters.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
    if is_trusted:
        parameters.flags |= libtorrent.torrent_flags.seed_mode
    return session.add_torrent(parameters)


def _wait_for_all(session: Any, handle: Any) -> None:
    """Wait until a torrent has all pieces."""
    while not handle.status().is_seeding:
        session.wait_for_alert(20)
        session.pop_alerts()


def _swarm(given: argparse.Namespace) -> None:
    session = _session(given.port, given.upload_limit)
    is_whole = given.file.exists()
    if is_whole:  # it has the file, and checks it before the others begin
        handle = _add(session, given)
        _wait_for_all(session, handle)
    print(end=READY, flush=True)
    sys.stdin.readline()
    if not is_whole:
        handle = _add(session, given)
        for port in given.peer:
            handle.connect_peer((_HOST, port))
        _wait_for_all(session, handle)
    print(end=DONE, flush=True)
    sys.stdin.read()
    print(handle.status().total_payload_upload)


def _serve(given: argparse.Namespace) -> None:
    session = _session(given.port, given.upload_limit)
    _add(session, given, is_trusted=True)
    print("seeding", flush=True)
    signal.pause()


def _fetch(given: argparse.Namespace) -> None:
    session = _session(0, given.upload_limit)
    handle = _add(session, given)
    handle.connect_peer((_HOST, given.port))
    _wait_for_all(session, handle)
    del handle, session  # which writes what is in memory


if __name__ == "__main__":
    main()
