"""The contestants' data: it can be started."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.contestants import CONTESTANTS, GROUPS, TARGETS, fill, words_of

VALUES = dict.fromkeys(
    (
        *("task", "turn", "run", "port", "user", "group"),
        *("task_id", "content_length", "piece_length", "piece_count", "concurrency"),
    ),
    "a value",
)


class ContestantsTests(SynchronousTestCase):
    """Contestants and targets as values."""

    def test_names(self) -> None:
        """There are twenty-two, with titles of their own, in known groups."""
        self.assertEqual(len(CONTESTANTS), 22)
        self.assertEqual(len({each.title for each in CONTESTANTS.values()}), len(CONTESTANTS))
        self.assertEqual({each.group for each in CONTESTANTS.values()}, set(GROUPS))

    def test_templates(self) -> None:
        """Commands and files name nothing that a turn does not have."""
        for each in CONTESTANTS.values():
            for command in (each.parent.command, *each.child):
                self.assertNotIn("$", "".join(words_of(command, VALUES)))
            for text in each.parent.files.values():
                self.assertNotIn("$", fill(text, VALUES))
            self.assertEqual(each.writes, any("$turn" in command and "output" in command for command in each.child))

    def test_words(self) -> None:
        """A value stays a part of its word."""
        self.assertEqual(
            words_of("program --at=$turn/file 'a b'", {"turn": "/a b"}), ["program", "--at=/a b/file", "a b"]
        )

    def test_programs(self) -> None:
        """The programs are what the commands begin with, each once."""
        self.assertEqual(CONTESTANTS["curl"].programs, ("nginx", "curl", "python"))

    def test_targets(self) -> None:
        """Targets are about contestants, and are ratios of one kind."""
        for target in TARGETS:
            self.assertLessEqual({target.ours, target.other}, set(CONTESTANTS))
            self.assertEqual((target.at_least is None) + (target.at_most is None), 1)
