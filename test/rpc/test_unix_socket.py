"""Where a Unix socket listens: its rights, and what was there before."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.rpc.unix_socket import SocketPlace


class SocketPlaceTests(SynchronousTestCase):
    """A place in a directory of its own, with a short path."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="dfs")
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.path = self.directory / "peer.sock"

    def listen(self, path: Path) -> None:
        """Bind a socket that is open until the test ends."""
        self.socket = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.socket.close)
        self.socket.bind(os.fspath(path))
        self.socket.listen()

    def connect(self) -> None:
        """Connect to the path."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(self.path))

    def refusal(self, place: SocketPlace) -> int | None:
        """Why a place cannot be had, both when it is looked at and when it is taken."""
        seen: OSError = self.assertRaises(OSError, place.check)
        self.assertEqual(self.assertRaises(OSError, place.bind, self.listen).errno, seen.errno)
        self.assertEqual([entry.name for entry in self.directory.iterdir()], ["peer.sock"])
        return seen.errno

    def test_rights(self) -> None:
        """The socket has the mode and the group that are asked for, whatever the umask is, and takes connections."""
        self.addCleanup(os.umask, os.umask(0))
        SocketPlace(self.path, 0o660, str(os.getgid())).bind(self.listen)
        status = self.path.lstat()
        self.assertEqual((stat.S_IMODE(status.st_mode), status.st_gid), (0o660, os.getgid()))
        self.connect()

    def test_closed_while_bound(self) -> None:
        """Until it has its rights, the socket is in a directory that no other user can enter."""
        modes: list[int] = []

        def listen(path: Path) -> None:
            self.listen(path)
            modes.append(stat.S_IMODE(path.parent.stat().st_mode))

        SocketPlace(self.path, 0o600).bind(listen)
        self.assertEqual(modes, [0o700])

    def test_missing_directory(self) -> None:
        """The directory of the socket is made."""
        self.path = self.directory / "run" / "peer.sock"
        SocketPlace(self.path, 0o600).bind(self.listen)
        self.connect()

    def test_dead(self) -> None:
        """A socket of a process that has gone is replaced."""
        self.listen(self.path)
        self.socket.close()
        SocketPlace(self.path, 0o600).check()
        SocketPlace(self.path, 0o600).bind(self.listen)
        self.connect()

    def test_alive(self) -> None:
        """A socket at which another process listens is left alone, also where it does not accept connections."""
        self.listen(self.path)
        self.socket.listen(0)
        for _ in range(3):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.setblocking(False)
            client.connect_ex(os.fspath(self.path))
        self.assertEqual(self.refusal(SocketPlace(self.path, 0o600)), errno.EADDRINUSE)

    def test_no_socket(self) -> None:
        """A file, or a link to a socket elsewhere, is left alone."""
        self.path.write_text("mine")
        self.assertEqual(self.refusal(SocketPlace(self.path, 0o600)), errno.EEXIST)
        self.assertEqual(self.path.read_text(), "mine")
        self.path.unlink()
        self.path.symlink_to("/nowhere")
        self.assertEqual(self.refusal(SocketPlace(self.path, 0o600)), errno.EEXIST)

    def test_remove(self) -> None:
        """Its own socket is deleted in the end, and one that came after it is not."""
        place = SocketPlace(self.path, 0o600)
        place.bind(self.listen)
        place.remove()
        self.assertFalse(self.path.exists())
        place.bind(self.listen)
        self.path.unlink()
        self.listen(self.path)
        place.remove()
        self.assertTrue(self.path.exists())
        place.remove()  # once is enough

    def test_impossible(self) -> None:
        """A path that no client can connect to, and a group that does not exist, are refused."""
        for place in (SocketPlace(self.directory / ("n" * 100), 0o600), SocketPlace(self.path, 0o600, "no-such-group")):
            self.assertRaises(ValueError, place.check)
            self.assertRaises(ValueError, place.bind, self.listen)
