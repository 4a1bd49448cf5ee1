"""
``python -m benchmarks.programs.torrent_file``: a file from one process of libtorrent to another, as fast as it goes.
``serve`` writes the torrent and has the file; ``fetch`` reads the torrent, and ends when it has all pieces, each
verified by its SHA-1.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from benchmarks.programs.torrent import HOST, make_torrent, settings_of, wait_for_all

_NO_LIMIT = 0


def main() -> None:
    """Run the program."""
    import libtorrent

    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs.torrent_file")
    parser.add_argument("role", choices=("serve", "fetch"))
    parser.add_argument("torrent", type=Path)
    parser.add_argument("file", type=Path, help="that is served, or is to be written")
    parser.add_argument("--port", type=int, required=True, help="where the file is served")
    parser.add_argument("--piece-length", metavar="BYTES", type=int)
    given = parser.parse_args()
    serves = given.role == "serve"
    if serves:
        make_torrent(given.file, given.piece_length, given.torrent)
    session = libtorrent.session(settings_of(given.port if serves else 0, _NO_LIMIT))
    parameters = libtorrent.add_torrent_params()
    parameters.ti = libtorrent.torrent_info(str(given.torrent))
    parameters.ti.rename_file(0, given.file.name)
    parameters.save_path = str(given.file.parent)
    parameters.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
    if serves:
        parameters.flags |= libtorrent.torrent_flags.seed_mode  # it is not read before it is asked for
    handle = session.add_torrent(parameters)
    if serves:
        print("seeding", flush=True)
        signal.pause()
    handle.connect_peer((HOST, given.port))
    wait_for_all(session, handle)
    del handle, session  # which writes what is in memory


if __name__ == "__main__":
    main()
