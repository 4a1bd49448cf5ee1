"""How peers make each other known: what is said, what is taken, and what is remembered."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.peer_exchange import (
    AGE,
    MOST_NAMED,
    MOST_OF_A_HOST,
    MOST_OF_A_TASK,
    MOST_TASKS,
    PEERS_KEY,
    PORT_KEY,
    Askers,
    PeerExchange,
    askers_file,
    asking_peer,
    takes_part,
)
from dragonfly_vortex.wire import PieceKind

_TASK_ID = "ab" * 32


def peer(text: str) -> ParentAddress:
    """An address."""
    return ParentAddress.from_text(text)


class QuestionTests(SynchronousTestCase):
    """What a child says of itself."""

    def test_port(self) -> None:
        """It names the port of its door to parents that use TLS as it does, and 0 to others."""
        for is_secure, parent, port in (
            (False, "grpc://10.0.0.1:4000", "4007"),
            (True, "grpcs://10.0.0.1:4000", "4007"),
            (False, "grpcs://10.0.0.1:4000", "0"),
            (True, "grpc://10.0.0.1:4000", "0"),
        ):
            exchange = PeerExchange(port=4007, is_secure=is_secure, on_peers=lambda peers: None)
            self.assertEqual(exchange.question(peer(parent)), ((PORT_KEY, port),))


class NamedTests(SynchronousTestCase):
    """Which of the peers that a parent names are asked."""

    def named(self, text: str, parent: str = "grpc://10.0.0.1:4000", *, follow: bool = False) -> list[str]:
        """What is taken of a parent's answer."""
        heard: list[ParentAddress] = []
        PeerExchange(follow=follow, on_peers=heard.extend).hear(peer(parent), [("x", "y"), (PEERS_KEY, text)])
        return [str(each) for each in heard]

    def test_private(self) -> None:
        """Addresses of private networks are taken, and others only where every address is followed."""
        text = "10.0.0.2:4000,8.8.8.8:4000,[fd00::2]:4000,[2001:4860::2]:4000,169.254.169.254:8080,192.168.1.2:65535"
        private = ["grpc://10.0.0.2:4000", "grpc://[fd00::2]:4000", "grpc://192.168.1.2:65535"]
        self.assertEqual(self.named(text), private)
        self.assertEqual(len(self.named(text, follow=True)), 6)

    def test_loopback(self) -> None:
        """An address of the loopback is taken from a parent there alone, whatever is followed."""
        for text in ("127.0.0.1:4000", "[::1]:4000", "[::ffff:127.0.0.1]:4000"):
            for parent in ("grpc://10.0.0.1:4000", "grpc://parent.example:4000"):
                self.assertEqual(self.named(text, parent, follow=True), [])
            self.assertEqual(self.named(text, "grpc://127.0.0.1:4000"), [f"grpc://{text}"])

    def test_port(self) -> None:
        """A port of a system's services is not asked, whatever is followed."""
        self.assertEqual(self.named("10.0.0.2:22,10.0.0.2:1023,10.0.0.2:1024", follow=True), ["grpc://10.0.0.2:1024"])

    def test_malformed(self) -> None:
        """What is no IP address with a port is skipped."""
        text = "10.0.0.2,host.example:4000,:4000,10.0.0.2:0,10.0.0.2:70000,0.0.0.0:4000,224.0.0.1:4000,10.0.0.3:4000,,"
        self.assertEqual(self.named(text, follow=True), ["grpc://10.0.0.3:4000"])
        self.assertEqual(self.named("x" * 100_000), [])

    def test_many(self) -> None:
        """No more are taken of one answer than a parent of ours names."""
        self.assertEqual(len(self.named(",".join(f"10.0.0.{n}:4000" for n in range(1, 200)))), MOST_NAMED)

    def test_twice(self) -> None:
        """A parent that names peers in several fields is believed the first one."""
        heard: list[ParentAddress] = []
        answer = [(PEERS_KEY, f"10.0.0.{number}:4000") for number in (2, 3)]
        PeerExchange(on_peers=heard.extend).hear(peer("grpc://10.0.0.1:4000"), answer)
        self.assertEqual(heard, [peer("grpc://10.0.0.2:4000")])

    def test_secure(self) -> None:
        """They are spoken to as their parent is."""
        self.assertEqual(self.named("10.0.0.2:4000", "grpcs://10.0.0.1:4000"), ["grpcs://10.0.0.2:4000"])

    def test_silent(self) -> None:
        """A parent that names none changes nothing."""
        PeerExchange(on_peers=self.fail).hear(peer("grpc://10.0.0.1:4000"), [("x", "y"), (PEERS_KEY, "")])


class AskingPeerTests(SynchronousTestCase):
    """Where a peer serves that asks."""

    def test_connection(self) -> None:
        """It is at the IP address of its connection, in one spelling, and at the port that it says."""
        for connection, address in (
            ("ipv4:192.0.2.1:50000", "grpc://192.0.2.1:4007"),
            ("ipv6:%5B2001:db8::1%5D:50000", "grpc://[2001:db8::1]:4007"),
            ("ipv6:[::ffff:192.0.2.1]:50000", "grpc://192.0.2.1:4007"),
        ):
            found = asking_peer("grpc", connection, [("user-agent", "x"), (PORT_KEY, "4007")])
            self.assertEqual(str(found), address)

    def test_none(self) -> None:
        """Without a usable port, or where the connection has no address that others can use, it serves nowhere."""
        here = "ipv4:192.0.2.1:50000"
        for text in (
            "0",
            "22",
            "1023",
            "65536",
            "-4007",
            "4007 ",
            "\uff14\uff10\uff10\uff17",
            "",
            "x",
            "10.0.0.1:4007",
        ):
            self.assertIsNone(asking_peer("grpc", here, [(PORT_KEY, text)]), text)
        for connection in ("unix:/tmp/socket", "ipv6:%5Bfe80::1%25eth0%5D:50000", "ipv4:nonsense", ""):
            self.assertIsNone(asking_peer("grpc", connection, [(PORT_KEY, "4007")]), connection)
        self.assertIsNone(asking_peer("grpc", here, []))
        self.assertIsNone(asking_peer("grpc", here, [(PORT_KEY, "4007"), (PORT_KEY, "4008")]))

    def test_takes_part(self) -> None:
        """A child takes part that names a port, be it none."""
        self.assertTrue(takes_part([("user-agent", "x"), (PORT_KEY, "0")]))
        self.assertFalse(takes_part([("user-agent", "x")]))


class AskersTests(SynchronousTestCase):
    """The peers that have asked."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.directory = Path(self.mktemp())
        self.askers = Askers(self.directory, self.clock.seconds)

    def add(self, *texts: str, task_id: str = _TASK_ID) -> list[bool]:
        """These peers ask one after the other; which of them were new."""
        return [self.askers.add(PieceKind.STANDARD, task_id, peer(text)) for text in texts]

    def others(self, text: str = "", task_id: str = _TASK_ID) -> list[str]:
        """The peers that are named to one."""
        named = self.askers.others(PieceKind.STANDARD, task_id, peer(text) if text else None)
        return [each for key, value in named if key == PEERS_KEY for each in value.split(",")]

    def test_named(self) -> None:
        """To a peer those are named that asked for the same task, the latest first, but not itself."""
        self.assertEqual(self.others(), [])
        self.assertEqual(self.add("grpc://10.0.0.1:4000", "grpc://[fd00::2]:4000", "grpc://10.0.0.1:4000"), [1, 1, 0])
        self.add("grpc://10.0.0.9:4000", task_id="cd" * 32)
        self.assertEqual(self.others("grpc://10.0.0.7:4000"), ["10.0.0.1:4000", "[fd00::2]:4000"])
        self.assertEqual(self.others("grpc://10.0.0.1:4000"), ["[fd00::2]:4000"])
        self.assertEqual(self.askers.others(PieceKind.CACHE, _TASK_ID, None), ())

    def test_age(self) -> None:
        """A peer that has not asked for long is named no more."""
        self.add("grpc://10.0.0.1:4000", "grpc://10.0.0.2:4000")
        self.clock.advance(AGE / 2)
        self.add("grpc://10.0.0.1:4000")
        self.clock.advance(AGE / 2 + 1)
        self.assertEqual(self.others(), ["10.0.0.1:4000"])
        self.clock.advance(AGE)
        self.assertEqual(self.others(), [])

    def test_many_of_a_host(self) -> None:
        """One host with many ports displaces none but its own, those that asked first."""
        hosts = [f"10.0.0.2:{port}" for port in range(2000, 2000 + 500)]
        self.add("grpc://10.0.0.1:4000", *(f"grpc://{host}" for host in hosts))
        self.assertEqual(self.others(), [*reversed(hosts[-MOST_OF_A_HOST:]), "10.0.0.1:4000"])

    def test_many(self) -> None:
        """Of a task the latest are remembered, and of the tasks those that were asked for last."""
        hosts = [f"grpc://10.0.{number // 200}.{number % 200}:4000" for number in range(500)]
        self.add(*hosts)
        self.assertEqual(len(self.others()), MOST_NAMED)
        self.askers.write(PieceKind.STANDARD, _TASK_ID)
        lines = askers_file(self.directory, PieceKind.STANDARD, _TASK_ID).read_text().splitlines()
        self.assertEqual(lines, hosts[-MOST_OF_A_TASK:])
        for number in range(MOST_TASKS):
            self.add("grpc://10.0.0.1:4000", task_id=f"{number:064}")
        self.assertEqual(self.others(), [])
        self.assertEqual(self.others(task_id=f"{0:064}"), ["10.0.0.1:4000"])
        for number in (0, MOST_TASKS):
            self.add("grpc://10.0.0.2:4000", task_id=f"{number:064}")
        self.assertEqual(self.others(task_id=f"{0:064}"), ["10.0.0.2:4000", "10.0.0.1:4000"])
        self.assertEqual(self.others(task_id=f"{1:064}"), [])

    def test_file(self) -> None:
        """The file of a task has the peers that ask for it, and no file is left in the end."""
        path = askers_file(self.directory, PieceKind.STANDARD, _TASK_ID)
        self.askers.clear()
        for texts in (["grpc://10.0.0.1:4000"], ["grpc://10.0.0.1:4000", "grpcs://[fd00::2]:4000"]):
            self.add(*texts)
            self.askers.write(PieceKind.STANDARD, _TASK_ID)
            self.assertEqual(path.read_text().splitlines(), texts)
        self.assertEqual([each.name for each in path.parent.iterdir()], [_TASK_ID])
        self.askers.clear()
        self.assertFalse(path.exists())
