"""
Tests of how many modules a request runs through at a parent, from its bytes to the call that sends the piece, and how
many functions it has called; and a reply at a child, from its bytes to the piece's commit.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from types import FrameType

from twisted.internet.threads import deferToThread

import dragonfly_vortex
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.vortex.connections import ConnectionRegistry, ServerSettings
from dragonfly_vortex.vortex.server import VortexServerFactory
from dragonfly_vortex.wire import PieceKind
from test.daemon.peers import PeerTestCase, address_of
from test.vortex.serving import REACTOR, UNLIMITED, ServingTestCase
from test.vortex.shelf import TASK_ID

PACKAGE = os.path.dirname(dragonfly_vortex.__file__) + os.sep


class _Hops:
    """
    The package's modules whose functions are called in this thread, from ``dataReceived`` to a function in C.

    :param last: that function's name.
    """

    def __init__(self, last: str) -> None:
        self.modules: set[str] = set()
        self.calls = 0
        """How many functions were called until ``dataReceived`` ended."""
        self.is_over = False
        self._has_returned = False
        self._last = last

    def see(self, frame: FrameType, event: str, argument: object) -> None:
        """See a call; for ``sys.setprofile``."""
        is_ours, name = frame.f_code.co_filename.startswith(PACKAGE), frame.f_code.co_name
        if event == "call" and is_ours and (self.modules or name == "dataReceived"):
            self.calls += not self._has_returned
            if not self.is_over:
                self.modules.add(frame.f_code.co_filename.removeprefix(PACKAGE))
        elif event == "return" and is_ours and name == "dataReceived":
            self._has_returned = True
        elif event == "c_call" and self.modules and getattr(argument, "__name__", "") == self._last:
            self.is_over = True


class HopsTests(ServingTestCase):
    """A parent with a real storage, and a child that asks again for the same piece."""

    async def fewest(self, piece_length: int, last: str) -> tuple[list[str], int]:
        """
        The modules that a request runs through, when the piece has been sent before, and the number of calls: the
        fewest of some requests, because the kernel may have dropped the piece from its memory before one of them.
        """
        path, directory = Path(self.mktemp()).absolute(), Path(self.mktemp()).absolute()
        path.write_bytes(b"x" * piece_length)
        await deferToThread(import_file, path, directory, PieceKind.STANDARD, piece_length, task_id=TASK_ID)
        store = PieceStore(directory, REACTOR)
        self.addCleanup(store.stop)
        await store.start()
        settings = ServerSettings(clock=REACTOR, limiter=UploadLimiter(UNLIMITED, REACTOR))
        connections = ConnectionRegistry(REACTOR, tally=settings.tally)
        child = await self.child(self.serve(VortexServerFactory(store, settings, connections)))
        seen = []
        for _ in range(8):
            hops = _Hops(last)
            sys.setprofile(hops.see)
            try:
                child.ask(0)
                await deferToThread(child.reply)
            finally:
                sys.setprofile(None)
            if hops.is_over:
                seen.append((sorted(hops.modules), hops.calls))
        return min(seen, key=lambda each: (len(each[0]), each[1]))

    async def test_large(self) -> None:
        """A large piece is sent by ``sendfile`` after at most 12 modules."""
        modules, _ = await self.fewest(4 << 20, "sendfile")
        self.assertLessEqual(len(modules), 12, modules)

    async def test_small(self) -> None:
        """
        A small piece is sent after at most 12 modules and 54 calls: one of each only where the file system cannot say
        at once.
        """
        modules, calls = await self.fewest(16 << 10, "send")
        self.assertLessEqual(len(modules), 12, modules)
        self.assertLessEqual(calls, 54)


class _ChildHops:
    """
    The package's modules that run in this thread while a child receives, from a piece's first byte to its commit. A
    parent in the same thread is not seen: it runs in other turns.
    """

    def __init__(self) -> None:
        self.pieces: list[set[str]] = []
        """The modules of each piece that has been committed."""
        self._modules: set[str] = set()
        self._receiving: FrameType | None = None

    def see(self, frame: FrameType, event: str, argument: object) -> None:
        """See a call, or its end; for ``sys.setprofile``."""
        if event == "return" and frame is self._receiving:
            self._receiving = None
        if event != "call" or not frame.f_code.co_filename.startswith(PACKAGE):
            return
        module, name = frame.f_code.co_filename.removeprefix(PACKAGE), frame.f_code.co_name
        if self._receiving is None and (module, name) == ("vortex/client_protocol.py", "dataReceived"):
            self._receiving = frame
        if self._receiving is not None:
            self._modules.add(module)
            if (module, name) == ("storage/reactor/stored_target.py", "commit"):
                self.pieces.append(self._modules)
                self._modules, self._receiving = set(), None


class ChildHopsTests(PeerTestCase):
    """A child that downloads into its storage, over TCP."""

    async def fewest(self, piece_length: int) -> list[str]:
        """The modules that a reply runs through: the fewest of some pieces. Others run where something is rare."""
        content = os.urandom(16 * piece_length)
        self.path.write_bytes(content)
        import_file(self.path, self.directory / "parent", PieceKind.STANDARD, piece_length)
        parent = self.peer("parent", listen=["tcp:0:interface=127.0.0.1"])
        await parent.ready()
        child = self.peer("child", parents=[f"tcp://{address_of(parent)}"])
        hops = _ChildHops()
        sys.setprofile(hops.see)
        try:
            await child.download(hashlib.sha256(content).hexdigest()).done
        finally:
            sys.setprofile(None)
        return min((sorted(modules) for modules in hops.pieces), key=len)

    async def test_small(self) -> None:
        """A piece that comes with its header is committed after at most 20 modules."""
        modules = await self.fewest(64 << 10)
        self.assertLessEqual(len(modules), 20, modules)

    async def test_large(self) -> None:
        """One that is spliced needs three more: to splice, to read back, and to make room in the file."""
        modules = await self.fewest(1 << 20)
        self.assertLessEqual(len(modules), 23, modules)
