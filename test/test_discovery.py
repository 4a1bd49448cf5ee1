"""Peers of a local network: what is advertised, what is taken of it, and a download from a peer that was found."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zeroconf import ServiceInfo, Zeroconf

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.discovery import (
    MOST_PEERS,
    MOST_TOLD,
    SERVICE_TYPE,
    Advertisement,
    PeerBrowser,
    _own_addresses,
    address_to_advertise,
    require_zeroconf,
)
from dragonfly_vortex.errors import DiscoveryUnavailable
from dragonfly_vortex.limited_log import LINES
from test.processes import PROGRAMS, Daemon, dfvortex, import_file, start, write_config

_LOOPBACK = "127.0.0.1"


class AddressTests(SynchronousTestCase):
    """Where a door is said to be."""

    def test_first_that_is_one(self) -> None:
        """It is where the door listens, or the interface, or the host's address; a loopback host is none."""
        for listening, interface, host, expected in (
            ("10.0.0.1", "10.0.0.2", "10.0.0.3", ("10.0.0.1",)),
            ("127.0.0.1", None, "10.0.0.3", ("127.0.0.1",)),
            ("0.0.0.0", "10.0.0.2", "10.0.0.3", ("10.0.0.2",)),
            ("::", None, "10.0.0.3", ("10.0.0.3",)),
            ("0.0.0.0", None, "127.0.0.1", ()),
        ):
            self.assertEqual(address_to_advertise(listening, interface, host), expected)

    def test_of_the_machine(self) -> None:
        """The addresses of this machine are those that others can reach."""
        self.assertNotIn(_LOOPBACK, _own_addresses())


class _Turning(Clock):
    """A reactor whose thread is the test's."""

    def callFromThread(self, call: Callable[..., object], *arguments: object) -> None:
        """Call it."""
        call(*arguments)


class _SlowNetwork:
    """Looks an instance up as zeroconf does, and finds it at the last of some attempts."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts

    def get_service_info(self, type_: str, name: str) -> ServiceInfo | None:
        """Find nothing in time, or an instance."""
        self.attempts -= 1
        if self.attempts:
            return None
        return ServiceInfo(
            type_, name, port=4000, parsed_addresses=["10.0.0.7"], properties={"txtvers": "1", "scheme": "grpc"}
        )


class TakenTests(SynchronousTestCase):
    """What is taken of what the network says."""

    def peer(
        self, address: str, *, port: int = 4000, scheme: str | None = "grpc", interface: str | None = None
    ) -> str | None:
        """The peer that is made of an advertisement."""
        browser = PeerBrowser(cast(IReactorFromThreads, reactor), deferToThread, interface, lambda peers: None)
        info = ServiceInfo(
            SERVICE_TYPE,
            f"peer.{SERVICE_TYPE}",
            port=port,
            parsed_addresses=[address],
            properties={} if scheme is None else {"scheme": scheme},
        )
        found = browser._peer(info)
        return None if found is None else str(found)

    def test_taken(self) -> None:
        """A door of any transport at a private address is a parent."""
        self.assertEqual(self.peer("10.0.0.7"), "grpc://10.0.0.7:4000")
        self.assertEqual(self.peer("192.168.1.7", scheme="tls", port=4005), "tls://192.168.1.7:4005")
        self.assertEqual(self.peer("fd00::7"), "grpc://[fd00::7]:4000")

    def test_not_taken(self) -> None:
        """Nor is a public address, a service's port, another scheme or none, or an address that needs a zone."""
        for address in ("8.8.8.8", "0.0.0.0", "fe80::7", "2001:4860:4860::8888", "::", "2001::7", "2002:808:808::1"):
            self.assertIsNone(self.peer(address), address)
        self.assertIsNone(self.peer("10.0.0.7", port=1023))
        self.assertIsNone(self.peer("10.0.0.7", scheme="http"))
        self.assertIsNone(self.peer("10.0.0.7", scheme=None))

    def test_loopback(self) -> None:
        """This machine's own ports are taken where its loopback is looked at, and only there."""
        self.assertIsNone(self.peer(_LOOPBACK))
        self.assertIsNone(self.peer(_LOOPBACK, interface="10.0.0.1"))
        self.assertEqual(self.peer(_LOOPBACK, interface=_LOOPBACK), "grpc://127.0.0.1:4000")

    def test_written_as_ipv6(self) -> None:
        """An address of IPv4 that is written as one of IPv6 is taken like that of IPv4."""
        for address in ("127.0.0.1", "8.8.8.8", "0.0.0.0"):
            self.assertIsNone(self.peer(f"::ffff:{address}"), address)
        self.assertIsNotNone(self.peer("::ffff:10.0.0.7"))

    def test_most(self) -> None:
        """So many peers are reported at once, and so many in all, however often they come and go."""
        told: list[list[ParentAddress]] = []
        browser = PeerBrowser(cast(IReactorFromThreads, reactor), deferToThread, None, told.append)
        for port in range(2000, 2000 + MOST_PEERS + 1):
            browser._change(str(port), ParentAddress(scheme="grpc", host="10.0.0.7", port=port))
        self.assertEqual(len(told[-1]), MOST_PEERS)
        for port in range(10_000, 10_000 + 2 * MOST_TOLD):
            browser._change("2000", ParentAddress(scheme="grpc", host="10.0.0.7", port=port))
            browser._change("2000", None)
        self.assertEqual(len({peer for peers in told for peer in peers}), MOST_TOLD)
        known = ParentAddress(scheme="grpc", host="10.0.0.7", port=2000)
        browser._change("2000", known)
        self.assertIn(known, told[-1])

    def test_unreadable(self) -> None:
        """Names that zeroconf refuses fill no log, and each is one line in it."""

        class Network:
            """Looks an instance up as zeroconf does, and finds none."""

            def get_service_info(self, type_: str, name: str) -> None:
                """Refuse a name that none can have."""
                ServiceInfo(type_, name)

        browser = PeerBrowser(cast(IReactorFromThreads, _Turning()), _at_once, None, lambda peers: None)
        with capturedLogs() as events:
            for number in range(2 * LINES):
                browser.add_service(cast(Zeroconf, Network()), SERVICE_TYPE, f"{number}\n\x1b[2J.{SERVICE_TYPE}")
        self.assertEqual(len(events), LINES)
        self.assertTrue(all(formatEvent(event).isprintable() for event in events))
        self.flushLoggedErrors()
        browser._limited_log.close()

    def test_answer_late(self) -> None:
        """An instance that does not answer in time is looked up again, with growing pauses, until it is gone."""
        for goes_away in (False, True):
            clock, network = _Turning(), _SlowNetwork(4)
            told: list[list[ParentAddress]] = []
            browser = PeerBrowser(cast(IReactorFromThreads, clock), _at_once, None, told.append)
            name = f"peer.{SERVICE_TYPE}"
            browser.add_service(cast(Zeroconf, network), SERVICE_TYPE, name)
            clock.advance(1.0)
            clock.advance(2.0)
            self.assertEqual((network.attempts, told), (1, []))
            if goes_away:
                browser.remove_service(cast(Zeroconf, network), SERVICE_TYPE, name)
            clock.advance(4.0)
            self.assertEqual([str(peer) for peer in (told or [[]])[-1]], [] if goes_away else ["grpc://10.0.0.7:4000"])
            self.assertEqual(clock.getDelayedCalls(), [])

    def test_slow_beside_others(self) -> None:
        """An instance that does not answer holds up no other; a few are looked up at once, and one that goes is not."""
        waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

        def in_thread(function: Callable[[], Any]) -> Deferred[Any]:
            waiting.append((function, Deferred()))
            return waiting[-1][1]

        told: list[list[ParentAddress]] = []
        browser = PeerBrowser(cast(IReactorFromThreads, _Turning()), in_thread, None, told.append)
        network = cast(Zeroconf, _SlowNetwork(1))
        names = [f"{number}.{SERVICE_TYPE}" for number in range(6)]
        for name in names:
            browser.add_service(network, SERVICE_TYPE, name)
        self.assertEqual(len(waiting), 4)
        browser.remove_service(network, SERVICE_TYPE, names[4])
        function, deferred = waiting[2]
        deferred.callback(function())
        self.assertEqual([str(peer) for peer in told[-1]], ["grpc://10.0.0.7:4000"])
        self.assertEqual(len(waiting), 5)
        browser.remove_service(network, SERVICE_TYPE, names[0])
        waiting[0][1].callback(function())  # it was there a moment ago
        self.assertEqual((len(told), browser._found.keys()), (1, {names[2]}))

    def test_many_left_out(self) -> None:
        """Of hundreds of lookups that wait, those that are not needed any more are left out, and the next is done."""
        waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

        def in_thread(function: Callable[[], Any]) -> Deferred[Any]:
            waiting.append((function, Deferred()))
            return waiting[-1][1]

        told: list[list[ParentAddress]] = []
        browser = PeerBrowser(cast(IReactorFromThreads, _Turning()), in_thread, None, told.append)
        network = cast(Zeroconf, _SlowNetwork(1))
        for number in range(4):
            browser.add_service(network, SERVICE_TYPE, f"{number}.{SERVICE_TYPE}")
        for _ in range(600):
            browser.update_service(network, SERVICE_TYPE, f"changing.{SERVICE_TYPE}")
        waiting[0][1].callback((True, None))
        self.assertEqual(len(waiting), 5)
        for number in range(600):
            browser.add_service(network, SERVICE_TYPE, f"late-{number}.{SERVICE_TYPE}")
        function, deferred = waiting[4]
        deferred.callback(function())
        self.assertEqual((told, len(waiting)), ([told[0]], 6))
        browser.stop()
        waiting[5][1].callback((True, None))
        self.assertEqual((len(told), len(waiting)), (1, 7))  # the browser's own end is the last call

    def test_answer_late_after_the_stop(self) -> None:
        """Nothing is looked up after the end, and no timer is left."""
        clock, network = _Turning(), _SlowNetwork(4)
        browser = PeerBrowser(cast(IReactorFromThreads, clock), _at_once, None, lambda peers: None)
        browser.add_service(cast(Zeroconf, network), SERVICE_TYPE, f"peer.{SERVICE_TYPE}")
        self.successResultOf(browser.stop())
        self.assertEqual((network.attempts, clock.getDelayedCalls()), (3, []))

    def test_without_the_package(self) -> None:
        """Without zeroconf the error names what is to be installed."""
        require_zeroconf()
        found = sys.modules["zeroconf"]
        sys.modules["zeroconf"] = None  # type: ignore[assignment]  # as if it were not installed
        self.addCleanup(sys.modules.__setitem__, "zeroconf", found)
        error = self.assertRaises(DiscoveryUnavailable, require_zeroconf)
        self.assertIn("pip install 'dragonfly-vortex[discovery]'", str(error))


def _at_once(function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
    """Call a function here, in place of a thread."""
    return maybeDeferred(function, *arguments)


class LoopbackTests(TestCase):
    """On the loopback, by real multicast."""

    timeout = 120

    def setUp(self) -> None:
        self.seen: list[list[ParentAddress]] = []
        # Other suites may run on this loopback: only by their ports are these peers known.
        self.ports = random.sample(range(20_000, 60_000), 3)

    def advertise(self, name: str, port: int) -> Advertisement:
        """An advertisement of a peer on the loopback."""
        made = Advertisement(
            deferToThread, interface=_LOOPBACK, name=name, addresses=(_LOOPBACK,), scheme="grpc", port=port
        )
        self.addCleanup(made.stop)
        return made

    async def until_seen(self, port: int, *, is_there: bool) -> None:
        """Wait until a peer with this port is there, or is not."""
        while any(peer.port == port for peer in (self.seen or [[]])[-1]) is not is_there:
            await deferLater(IReactorTime(reactor), 0.02)

    async def test_found_and_gone(self) -> None:
        """A peer is found while it is advertised; two of one name are two."""
        browser = PeerBrowser(cast(IReactorFromThreads, reactor), deferToThread, _LOOPBACK, self.seen.append)
        await browser.start()
        self.addCleanup(browser.stop)
        name, (first_port, second_port, _) = f"test-{os.getpid()}", self.ports
        first, second = self.advertise(name, first_port), self.advertise(name, second_port)
        await first.start()
        await self.until_seen(first_port, is_there=True)
        await second.start()
        await self.until_seen(second_port, is_there=True)
        await first.stop()
        await self.until_seen(first_port, is_there=False)
        await self.until_seen(second_port, is_there=True)

    async def test_stopped_while_it_starts(self) -> None:
        """An advertisement and a search that are stopped at once leave nothing, and tell nothing."""
        advertisement = self.advertise(f"early-{os.getpid()}", self.ports[2])
        browser = PeerBrowser(cast(IReactorFromThreads, reactor), deferToThread, _LOOPBACK, self.seen.append)
        started: list[Deferred[None]] = [advertisement.start(), browser.start()]
        for stopped in (advertisement.stop(), browser.stop()):
            await stopped
        for each in started:
            self.successResultOf(each)
        self.assertEqual(self.seen, [])

    async def test_only_peer_goes(self) -> None:
        """A download whose only peer has gone waits for another."""
        directory = Path(self.mktemp()).absolute()
        for name in ("peer", "child"):
            write_config(directory / name, more=f"discovery: {{enable: true, ip: {_LOOPBACK}}}\n")
        (directory / "file").write_bytes(os.urandom(1000))
        task_id = await deferToThread(partial(import_file, directory / "file", directory=directory / "peer"))
        browser = PeerBrowser(cast(IReactorFromThreads, reactor), deferToThread, _LOOPBACK, self.seen.append)
        await browser.start()
        self.addCleanup(browser.stop)
        port = self.ports[0]  # where nothing listens
        gone = self.advertise("gone", port)
        await gone.start()
        command: list[str | Path] = [PROGRAMS / "dfvortex", "download", task_id, "--output", "out"]
        child = start(command, cwd=directory / "child", stderr=subprocess.PIPE, text=True)
        self.addCleanup(child.communicate)
        self.addCleanup(child.kill)
        await deferToThread(next, (line for line in child.stderr or () if f"{_LOOPBACK}:{port} failed" in line))
        await gone.stop()
        await self.until_seen(port, is_there=False)
        with Daemon(directory / "peer"):
            self.assertEqual(await deferToThread(child.wait, 60), 0)


class ProcessTests(TestCase):
    """A peer and a download as processes."""

    timeout = 120

    async def test_download(self) -> None:
        """A command that names no parent finds the peer that has the task, and asks it which pieces it has."""
        directory = Path(self.mktemp()).absolute()
        discovery = f"discovery: {{enable: true, ip: {_LOOPBACK}}}\n"
        write_config(directory / "peer", more=discovery)
        write_config(directory / "child", more=discovery)
        content = os.urandom(300_000)
        (directory / "file").write_bytes(content)
        task_id = await deferToThread(
            partial(import_file, directory / "file", directory=directory / "peer", piece_length=100_000)
        )
        with Daemon(directory / "peer") as daemon:
            await deferToThread(daemon.wait_for, f"advertised on the local network: gRPC port {daemon.grpc_port}")
            ran = await deferToThread(dfvortex, "download", task_id, "--output", "out", directory=directory / "child")
            self.assertEqual(ran.returncode, 0, ran)
            self.assertTrue((directory / "child" / "out").read_bytes() == content)
            self.assertEqual(await deferToThread(daemon.stop), 0)
