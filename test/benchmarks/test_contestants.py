"""Who takes part: what is written of them can be started."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.contestant import GROUPS, fill, words_of
from benchmarks.contestants import CONTESTANTS
from benchmarks.targets import TARGETS

VALUES = dict.fromkeys(
    (
        *("task", "turn", "run", "port", "user", "group"),
        *("task_id", "content_length", "piece_length", "piece_count", "concurrency"),
    ),
    "a value",
)


class ContestantsTests(SynchronousTestCase):
    """Contestants as values."""

    def test_names(self) -> None:
        """Names and titles are their own, and groups are known."""
        self.assertEqual(len({each.title for each in CONTESTANTS.values()}), len(CONTESTANTS))
        for name, each in CONTESTANTS.items():
            self.assertEqual(each.name, name)
            self.assertIn(each.group, GROUPS)

    def test_templates(self) -> None:
        """Commands and files ask for nothing that a turn does not have."""
        for each in CONTESTANTS.values():
            for command in (each.parent.command, *each.child):
                self.assertNotIn("$", "".join(words_of(command, VALUES)))
            for text in (*each.parent.files.values(), *each.files.values()):
                self.assertNotIn("$", fill(text, VALUES))

    def test_words(self) -> None:
        """A value is a part of its word, whatever is in it."""
        self.assertEqual(
            words_of("program --at=$turn/file 'a b'", {"turn": "/a b"}), ["program", "--at=/a b/file", "a b"]
        )

    def test_programs(self) -> None:
        """The programs are what the commands begin with, each once."""
        self.assertEqual(CONTESTANTS["curl"].programs, ("nginx", "curl", "python"))

    def test_targets(self) -> None:
        """Targets are about those who take part, and are ratios of one kind."""
        for target in TARGETS:
            self.assertLessEqual({target.ours, target.other}, set(CONTESTANTS))
            self.assertEqual((target.at_least is None) + (target.at_most is None), 1)
