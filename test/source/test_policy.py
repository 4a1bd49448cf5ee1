"""What a seed fetches for strangers."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import SourceError
from dragonfly_vortex.model import Origin
from dragonfly_vortex.source.http import HTTPSource
from dragonfly_vortex.source.location import locate
from dragonfly_vortex.source.policy import SourcePolicy
from dragonfly_vortex.testing.scripted_origin import redirect
from test.source.origins import CONTENT, SourceCase


class PolicyTests(SynchronousTestCase):
    """Decisions about hosts and addresses."""

    def test_metadata_elsewhere(self) -> None:
        """Metadata of clouds at other addresses is refused, and the IPv4 address in one of NAT64 counts."""
        policy = SourcePolicy((), lambda: ())
        for address in ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "64:ff9b::169.254.169.254"):
            self.assertFalse(policy.allows("name", address), address)
        self.assertTrue(policy.allows("name", "64:ff9b::192.0.2.1"))
        self.assertTrue(SourcePolicy(("100.100.100.200",), lambda: ()).allows("name", "100.100.100.200"))

    def policy(self, *sources: str) -> SourcePolicy:
        """A policy of a machine with one address."""
        return SourcePolicy(sources, lambda: {"203.0.113.5"})

    def test_default(self) -> None:
        """Any host may be asked but this machine, and what only this machine's link can reach."""
        policy = self.policy()
        for address in ("198.51.100.1", "10.0.0.7", "2001:db8::1"):
            self.assertTrue(policy.allows("example.org", address), address)
        for address in (
            *("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"),
            *("169.254.169.254", "fe80::1", "fe80::1%eth0", "224.0.0.1", "203.0.113.5", "::ffff:203.0.113.5"),
            "no address",
        ):
            self.assertFalse(policy.allows("example.org", address), address)
        self.assertFalse(policy.allows("example.org", None))

    def test_sources(self) -> None:
        """With sources these alone may be asked, by name, by address and by network."""
        policy = self.policy("Example.org", "127.0.0.1", "10.0.0.0/8")
        self.assertTrue(policy.allows("example.org.", "198.51.100.1"))
        self.assertTrue(policy.allows("example.org", None))
        self.assertTrue(policy.allows("127.0.0.1", "127.0.0.1"))
        self.assertTrue(policy.allows("other.example", "10.1.2.3"))
        for host, address in (("other.example", "198.51.100.1"), ("other.example", None), ("localhost", "127.0.0.2")):
            self.assertFalse(policy.allows(host, address), host)

    def test_this_machine(self) -> None:
        """The addresses of this machine are found out."""
        self.assertFalse(SourcePolicy(()).allows("localhost", "127.0.0.1"))


class ConnectionTests(SourceCase):
    """A source that is asked under a policy, over real sockets."""

    def restricted(self, url: str, *sources: str, proxies: Mapping[str, str] | None = None) -> HTTPSource:
        """A source for a stranger."""
        return HTTPSource(locate(Origin(url=url)), self.agent(proxies, SourcePolicy(sources).allows))

    async def test_this_machine(self) -> None:
        """This machine is not connected to, neither by its address nor by a name."""
        origin = self.origin()
        for host in ("127.0.0.1", "localhost"):
            error = await self.failure_of(self.restricted(origin.url(host=host)).stat())
            self.assertIsInstance(error, SourceError)
        self.assertEqual((origin.asked, len(origin._transports)), ([], 0))

    async def test_named(self) -> None:
        """A source that is named is asked; not the one to which it leads, unless that is named, too."""
        origin = self.origin()
        stat = await self.restricted(origin.url(), "127.0.0.1").stat()
        self.assertEqual(stat.content_length, len(CONTENT))
        here = self.origin(script=[redirect(origin.url())])
        connections = len(origin._transports)
        await self.failure_of(self.restricted(here.url(host="localhost"), "localhost").stat())
        self.assertEqual((len(here._transports), len(origin._transports)), (1, connections))

    async def test_proxy(self) -> None:
        """Through a proxy only a source that is named is asked: where the proxy connects to is not known."""
        proxy = self.origin()
        proxies = {"http": f"http://127.0.0.1:{proxy.port}", "https": f"http://127.0.0.1:{proxy.port}"}
        for scheme in ("http", "https"):
            await self.failure_of(self.restricted(f"{scheme}://elsewhere.example/a", proxies=proxies).stat())
        self.assertEqual(len(proxy._transports), 0)
        await self.restricted("http://elsewhere.example/a", "elsewhere.example", proxies=proxies).stat()
        self.assertEqual(len(proxy._transports), 1)
