"""Who speaks to which parents: a downloader for all, and announcers for those that have a gRPC address."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import cast

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config.model import Config
from dragonfly_vortex.downloaders.auto import AutoDownloader
from dragonfly_vortex.downloaders.negotiation import Negotiation, negotiate
from dragonfly_vortex.downloaders.pooled import GRPCDownloader
from dragonfly_vortex.errors import ParentUnreachable, UnknownProtocol, WrongTransport
from dragonfly_vortex.interfaces import IPieceAnnouncer

_GRPC, _GRPCS, _TCP, _TLS = "grpc://192.0.2.1:4000", "grpcs://192.0.2.2:4000", "192.0.2.3:4005", "tls://192.0.2.4:4005"


class NegotiateTests(SynchronousTestCase):
    """What is made for which protocol and which parents."""

    def negotiate(self, protocol: str, parents: Sequence[str]) -> Negotiation:
        """Negotiate on a reactor that does nothing."""
        addresses = [ParentAddress.from_text(parent) for parent in parents]
        return negotiate(protocol, Config(), addresses, reactor=MemoryReactorClock())

    def test_auto(self) -> None:
        """Parents of all sorts have one downloader; those with a gRPC address have announcers."""
        made = self.negotiate("auto", (_GRPC, _TCP, _GRPCS, _TLS))
        self.assertIsInstance(made.downloader, AutoDownloader)
        self.assertEqual(list(made.announcers), [_GRPC, _GRPCS])
        for announcer in made.announcers.values():
            verifyObject(IPieceAnnouncer, announcer)
        self.assertIs(made.carried, cast(AutoDownloader, made.downloader).carried)

    def test_tcp(self) -> None:
        """With TCP alone gRPC tells of the pieces, and carries none: a parent that offers no TCP port gives none."""
        made = self.negotiate("tcp", (_GRPC, _TCP))
        self.assertEqual(list(made.announcers), [_GRPC])
        failing = made.downloader.download_piece(_GRPC, 0, "", "0" * 64)
        self.assertIn("offers no TCP port", str(self.failureResultOf(failing, ParentUnreachable).value))

    def test_grpc(self) -> None:
        """With gRPC alone it is the gRPC downloader."""
        made = self.negotiate("grpc", (_GRPC, _GRPCS))
        self.assertIsInstance(made.downloader, GRPCDownloader)
        self.assertEqual(list(made.announcers), [_GRPC, _GRPCS])

    def test_grpc_with_a_tcp_parent(self) -> None:
        """With gRPC alone a parent that has no gRPC address is refused, and named."""
        for parent in (_TCP, _TLS):
            error = self.assertRaises(WrongTransport, self.negotiate, "grpc", (_GRPC, parent))
            self.assertEqual(error.parent, parent)
            self.assertIn(f"got {parent}", str(error))

    def test_unknown(self) -> None:
        """A protocol that there is not is refused."""
        self.assertRaises(UnknownProtocol, self.negotiate, "quic", (_TCP,))

    def test_loads_grpc_for_grpc_parents_alone(self) -> None:
        """For parents of TCP nothing of gRPC is loaded, with ``auto`` neither."""
        program = (
            "import sys\n"
            "from twisted.internet.testing import MemoryReactorClock\n"
            "from dragonfly_vortex.config import default_config\n"
            "from dragonfly_vortex.downloaders.negotiation import negotiate\n"
            "from dragonfly_vortex.address import ParentAddress\n"
            "parents = [ParentAddress.from_text(text) for text in sys.argv[1:]]\n"
            "negotiate('auto', default_config(), parents, reactor=MemoryReactorClock())\n"
            "print('grpc' in sys.modules)\n"
        )
        for parents, loaded in (([_TCP, _TLS], "False"), ([_TCP, _GRPC], "True")):
            ran = subprocess.run([sys.executable, "-c", program, *parents], capture_output=True, text=True, check=True)
            self.assertEqual(ran.stdout.strip(), loaded)


class StopTests(TestCase):
    """What has been negotiated ends with the downloader."""

    timeout = 30

    async def test_stop(self) -> None:
        """Nothing is left after the downloader has been stopped, whether it was used or not."""
        for protocol in ("auto", "tcp", "grpc"):
            parents = [ParentAddress.from_text(_GRPC)]
            made = negotiate(protocol, Config(), parents, reactor=IReactorTCP(reactor))
            await made.downloader.stop()
