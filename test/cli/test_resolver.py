"""Tests of the resolver that is not waited for."""

from __future__ import annotations

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
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dragonfly_vortex.cli.resolver import UnawaitedResolver


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
