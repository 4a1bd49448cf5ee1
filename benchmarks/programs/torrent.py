"""
``python -m benchmarks.programs.torrent``: a peer of libtorrent, in a swarm with a fixed list of peers. It begins when
it reads a line, writes that its work is done when it has all pieces, and goes on serving until standard input ends, see
:mod:`benchmarks.together`. The last line of its output is the bytes of pieces that it has sent.

All ways to find peers, uTP and encryption are off, so that nothing but the transfer takes time. The limit holds for
peers of the same machine too, and counts the bytes of pieces and not those of IP headers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.together import DONE, READY

__all__ = ["HOST", "make_torrent", "settings_of", "wait_for_all"]

HOST = "127.0.0.1"


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


def settings_of(port: int, upload_limit: int) -> Any:
    """
    What a session is configured with.

    :param upload_limit: bytes per second; 0 for no limit.
    """
    return {
        "listen_interfaces": f"{HOST}:{port}",
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


def main() -> None:
    """Run the program."""
    import libtorrent

    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs.torrent")
    parser.add_argument("torrent", type=Path)
    parser.add_argument("directory", type=Path, help="where the file is, or is to be")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upload-limit", metavar="BYTES", type=int, required=True)
    parser.add_argument("--peer", metavar="PORT", type=int, action="append", default=[])
    given = parser.parse_args()
    session = libtorrent.session(settings_of(given.port, given.upload_limit))
    parameters = libtorrent.add_torrent_params()
    parameters.ti = libtorrent.torrent_info(str(given.torrent))
    parameters.save_path = str(given.directory)
    parameters.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
    is_whole = (given.directory / parameters.ti.name()).exists()
    if is_whole:  # it has the file, and checks it before the others begin
        handle = session.add_torrent(parameters)
        wait_for_all(session, handle)
    print(end=READY, flush=True)
    sys.stdin.readline()
    if not is_whole:
        handle = session.add_torrent(parameters)
        for port in given.peer:
            handle.connect_peer((HOST, port))
        wait_for_all(session, handle)
    print(end=DONE, flush=True)
    sys.stdin.read()
    print(handle.status().total_payload_upload)


def wait_for_all(session: Any, handle: Any) -> None:
    """Wait until a torrent has all pieces."""
    while not handle.status().is_seeding:
        session.wait_for_alert(20)
        session.pop_alerts()


if __name__ == "__main__":
    main()
