"""Work that a command does in the reactor: its end, its time, and signals. ``test_download`` has the rest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorFromThreads,
    IResolutionReceiver,
)
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dragonfly_vortex.cli.reactor import UnawaitedResolver

#: Runs a Deferred that the arguments name, with a timeout, and prints what becomes of it.
PROGRAM = """
import os, signal, sys
from twisted.internet.defer import Deferred, fail, succeed
from dragonfly_vortex.cli.reactor import load_reactor, run_reactor
from dragonfly_vortex.errors import VortexError
reactor = load_reactor(needs_tls=False)
def stop():
    reactor.callLater(0, os.kill, os.getpid(), signal.SIGTERM)
    return Deferred()
works = {
    "done": lambda: succeed("done"),
    "failed": lambda: fail(VortexError("failed")),
    "endless": Deferred,
    "stopped": stop,
}
try:
    # Written by format(): Python 3.10's str() of a member of an IntEnum is its name.
    print(f"{run_reactor(reactor, works[sys.argv[1]], float(sys.argv[2]) or None)}")
except VortexError as error:
    print(type(error).__name__, error)
"""


TLS = """
import sys
if sys.argv[1]:
    import OpenSSL.SSL
from dragonfly_vortex.cli.reactor import load_reactor
load_reactor(needs_tls=bool(sys.argv[2]))
print(*(name in sys.modules for name in ("OpenSSL", "OpenSSL.SSL", "twisted.internet._newtls")))
"""


class LoadTests(SynchronousTestCase):
    """A reactor with and without TLS."""

    def test_tls(self) -> None:
        """It has TLS where that is needed, or is loaded already; or else pyOpenSSL is not loaded, and can be later."""
        for is_loaded, needs_tls, has_tls in (
            ("", "", False),
            ("", "yes", True),
            ("yes", "", True),
            ("yes", "yes", True),
        ):
            command = [sys.executable, "-c", TLS, is_loaded, needs_tls]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
            self.assertEqual((ran.stdout, ran.stderr), (f"{has_tls} {has_tls} {has_tls}\n", ""), command[-2:])


class RunTests(SynchronousTestCase):
    """Each run has a process of its own: a reactor cannot run twice."""

    def run_work(self, name: str, timeout: float) -> str:
        """What a program with that work prints."""
        command = [sys.executable, "-c", PROGRAM, name, str(timeout)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    def test_ends(self) -> None:
        """The result, the error, the time that has passed, or the status of a signal."""
        for name, timeout, expected in (
            ("done", 0.0, "done"),
            ("done", 100.0, "done"),
            ("failed", 0.0, "VortexError failed"),
            ("endless", 0.2, "TimedOut expected to be done within 0.2 s, was not"),
            ("stopped", 100.0, "143"),
        ):
            self.assertEqual(self.run_work(name, timeout), expected)


@implementer(IResolutionReceiver)
class Receiver:
    """Keeps the results; ``complete`` fires with the last."""

    def __init__(self) -> None:
        self.addresses: list[IAddress] = []
        self.complete: Deferred[None] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """A resolution tells its name."""
        self.name = resolutionInProgress.name

    def addressResolved(self, address: IAddress) -> None:
        """One more."""
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        """That was all."""
        self.complete.callback(None)


class ResolverTests(TestCase):
    """Names and their addresses."""

    def setUp(self) -> None:
        self.resolver = UnawaitedResolver(IReactorFromThreads(reactor))

    async def resolve(self, name: str, types: Sequence[type[IAddress]] | None = None) -> list[IAddress]:
        """The addresses of a name."""
        receiver = Receiver()
        resolution = self.resolver.resolveHostName(receiver, name, 4005, types)
        self.assertEqual((resolution.name, receiver.name), (name, name))
        await receiver.complete
        return receiver.addresses

    def test_provides(self) -> None:
        """It is what a reactor can be given."""
        verifyObject(IHostnameResolver, self.resolver)

    async def test_names(self) -> None:
        """A name has its addresses, of the kinds that were asked for; an address is its own."""
        self.assertIn(IPv4Address("TCP", "127.0.0.1", 4005), await self.resolve("localhost"))
        self.assertEqual(await self.resolve("127.0.0.1", [IPv6Address]), [])
        self.assertEqual(await self.resolve("::1", [IPv6Address]), [IPv6Address("TCP", "::1", 4005)])

    async def test_no_such_name(self) -> None:
        """A name without a host, and an impossible one, have no address."""
        for name in ("no-such-host.invalid", "a" * 100 + ".example"):
            self.assertEqual(await self.resolve(name), [])

    async def test_cancelled(self) -> None:
        """A resolution that is cancelled tells nothing more."""
        receiver = Receiver()
        self.resolver.resolveHostName(receiver, "127.0.0.1").cancel()
        await self.resolve("127.0.0.1")
        await deferLater(reactor, 0.1)
        self.assertEqual((receiver.addresses, receiver.complete.called), ([], False))
