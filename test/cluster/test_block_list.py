"""What an operator has blocked, as the reference reads it."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cluster.block_list import BlockLists, read_block_lists
from dragonfly_vortex.config.reading import read_document
from dragonfly_vortex.errors import ConfigError
from dragonfly_vortex.model import BlockSubject
from dragonfly_vortex.wire import PieceKind

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
