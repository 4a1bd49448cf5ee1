"""The file with the schedulers is read as the reference reads it."""

from __future__ import annotations

import socket
from pathlib import Path

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cluster.dynconfig import (
    MOST_ADDRESSES,
    BlockLists,
    Dynconfig,
    in_order,
    read_block_lists,
    read_dynconfig,
    resolve,
)
from dragonfly_vortex.config.reading import read_document
from dragonfly_vortex.errors import ConfigError
from dragonfly_vortex.rpc.peer_tasks import BlockSubject
from dragonfly_vortex.wire import PieceKind


class DynconfigTests(SynchronousTestCase):
    """Files, after the tests of ``dynconfig/local.rs``."""

    def read(self, text: str) -> Dynconfig:
        """What a file says."""
        file = Path(self.mktemp())
        file.write_text(text, encoding="utf-8")
        return read_dynconfig(file)

    def test_addresses(self) -> None:
        """Addresses go before a name; they are used once, in the order of their numbers."""
        addresses = "['[::1]:8002', '127.0.0.2:8002', '127.0.0.1:8003', '127.0.0.2:8002']"
        text = f"scheduler:\n  addr: 'name:1'\n  addrs: {addresses}\n"
        self.assertEqual(self.read(text).addresses, ("127.0.0.1:8003", "127.0.0.2:8002", "[::1]:8002"))
        self.assertEqual(self.read(text).name, "")

    def test_name(self) -> None:
        """A name is kept; without one, and in an empty file, it is the reference's."""
        for text, name in (
            ("scheduler: {addr: 'scheduler-headless.default.svc:8002'}\n", "scheduler-headless.default.svc:8002"),
            ("scheduler: {addr: 'name:1', addrs: []}\n", "name:1"),
            ("scheduler: {addr: 'name:1', addrs: ~}\n", "name:1"),
            ("scheduler:\n", "dragonfly-scheduler:8002"),
            ("scheduler: {}\n", "dragonfly-scheduler:8002"),
            ("", "dragonfly-scheduler:8002"),
        ):
            self.assertEqual(self.read(text), Dynconfig(name=name))

    def test_unused(self) -> None:
        """Keys that are not used are named."""
        read = self.read("other: {}\nclientConfig: {blockList: {}}\nscheduler: {addr: 'name:1'}\n")
        self.assertEqual(read, Dynconfig(name="name:1", unused=("other",)))

    def test_block_lists(self) -> None:
        """Each type of peer has its block lists."""
        read = self.read(
            "clientConfig: {blockList: {task: {download: {tags: [a]}}}}\n"
            "seedClientConfig: {blockList: {task: {download: {tags: [b]}}}}\n"
        )
        key = (PieceKind.STANDARD, False)
        self.assertEqual((read.client[key].tags, read.seed[key].tags), ({"a"}, {"b"}))

    def test_refused(self) -> None:
        """What the reference refuses is refused, with the key."""
        for text, key in (
            ("scheduler: [", ""),
            ("scheduler: []\n", "scheduler"),
            ("scheduler: {addr: ''}\n", "scheduler.addr"),
            ("scheduler: {addr: {}}\n", "scheduler.addr"),
            ("scheduler: {addrs: 'h:1'}\n", "scheduler.addrs"),
            ("scheduler: {addrs: ['192.168.1.10']}\n", "scheduler.addrs[0]"),
            ("scheduler: {addrs: ['127.0.0.1:1', 'name:8002']}\n", "scheduler.addrs[1]"),
            ("scheduler: {addrs: [[]]}\n", "scheduler.addrs[0]"),
        ):
            self.assertEqual(self.assertRaises(ConfigError, self.read, text).key, key, text)
        self.assertRaises(ConfigError, read_dynconfig, Path(self.mktemp()))

    def test_resolve(self) -> None:
        """A name stands for its addresses: the IPv4 ones where there are any."""
        self.assertEqual(resolve("localhost:8002"), ("127.0.0.1:8002",))
        self.assertEqual(resolve("[::1]:8002"), ("[::1]:8002",))

    def test_many_addresses(self) -> None:
        """Of a name's addresses a bounded number is used, the same ones whatever their order; a line says so."""
        observer = EventLoggingObserver()
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.{n >> 8}.{n & 255}", 8002)) for n in range(4000)]
        self.patch(socket, "getaddrinfo", lambda *_, **__: found[::-1])
        used = resolve("name:8002")
        self.assertEqual(used, tuple(f"192.0.0.{number}:8002" for number in range(MOST_ADDRESSES)))
        texts = [formatEvent(event) for event in observer]
        self.assertEqual(texts, ["name:8002 stands for 4000 addresses of schedulers; the first 64 are used"])

    def test_in_order(self) -> None:
        """Addresses are ordered by their numbers, and not by their letters."""
        self.assertEqual(in_order(["10.0.0.10:1", "10.0.0.9:1"]), ("10.0.0.9:1", "10.0.0.10:1"))


DOWNLOAD = (PieceKind.STANDARD, False)


class BlockListTests(SynchronousTestCase):
    """Block lists of a file."""

    def read(self, text: str) -> BlockLists:
        """The lists of a file."""
        file = Path(self.mktemp())
        file.write_text(text, encoding="utf-8")
        return read_block_lists(str(file), read_document(str(file)), "clientConfig")

    def test_any(self) -> None:
        """One match of URL, application, tag or priority is enough; what a request does not have matches nothing."""
        lists = self.read(
            "blockList: {task: {download: {applications: [app], urls: ['^https://forbidden[.]', '[.]iso$'],"
            " tags: [tag], priorities: [5]}}}\n"
        )
        for subject, is_blocked in (
            (BlockSubject(url="https://forbidden.example/f"), True),
            (BlockSubject(url="https://example/f.iso"), True),
            (BlockSubject(url="https://example/forbidden."), False),
            (BlockSubject(application="app"), True),
            (BlockSubject(tag="tag", url="https://example/f"), True),
            (BlockSubject(priority=5), True),
            (BlockSubject(url="https://example/f", application="a", tag="t", priority=6), False),
            (BlockSubject(), False),
        ):
            self.assertIs(lists[DOWNLOAD].blocks(subject), is_blocked, subject)

    def test_kinds(self) -> None:
        """Each kind of task has a list for downloads, and the persistent ones for imports; both spellings are read."""
        lists = self.read(
            "block_list:\n  persistentTask: {upload: {tags: [a]}}\n  persistent_cache_task: {download: {tags: [b]}}\n"
            "  task: {download: ~}\n"
        )
        keys = {(PieceKind.PERSISTENT, True), (PieceKind.PERSISTENT_CACHE, False)}
        self.assertEqual(lists.keys(), keys)

    def test_refused(self) -> None:
        """What is no list, and a pattern that is none, are refused with their key."""
        for text, key in (
            ("blockList: []\n", "clientConfig.blockList"),
            ("blockList: {task: {download: {urls: '.*'}}}\n", "clientConfig.blockList.task.download.urls"),
            ("blockList: {task: {download: {urls: ['(']}}}\n", "clientConfig.blockList.task.download"),
            ("blockList: {task: {download: {priorities: [high]}}}\n", "clientConfig.blockList.task.download"),
        ):
            self.assertEqual(self.assertRaises(ConfigError, self.read, text).key, key, text)
