"""Options that contradict each other, or have no effect together."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cli.arguments import make_parser
from dragonfly_vortex.cli.combinations import RULES
from dragonfly_vortex.cli.exit_status import ExitStatus
from test.cli.test_arguments import TASK_ID

URL = "https://host/file"
HUB = "hf://owner/repository/file"

#: Command lines, with the option and the reason that the error names.
REFUSED: dict[tuple[str, ...], str] = {
    **{
        ("download", TASK_ID, "-O", "o", option, value): f"{named or option} has no effect with a task ID"
        for option, value, named in (
            ("-H", "A: b", "--header"),
            ("--header", "A: b", ""),
            ("--hf-token", "x", ""),
            ("--hf-base-url", "http://h", ""),
            ("--hf-revision", "x", ""),
            ("--tag", "x", ""),
            ("--application", "x", ""),
            ("--revision", "x", ""),
            ("--filtered-query-param", "x", ""),
            ("--piece-length", "4MiB", ""),
            ("--storage-region", "x", ""),
            ("--storage-endpoint", "http://h", ""),
            ("--content-for-calculating-task-id", "x", ""),
            ("--back-to-source", "always", ""),
        )
    },
    ("download", TASK_ID, "--store", "--disable-back-to-source"): "--disable-back-to-source has no effect with a task",
    ("download", URL, "--hf-token", "x"): "--hf-token has no effect with this URL: expected one that begins with hf://",
    ("download", URL, "--hf-base-url", "http://h"): "--hf-base-url has no effect with this URL",
    ("download", URL, "--hf-revision", "x"): "--hf-revision has no effect with this URL",
    ("download", HUB, "--hf-revision", "x", "--revision", "y"): "--hf-revision has no effect with --revision",
    ("download", "hf://o/r@v1/f", "--hf-revision", "x"): "with this URL, which names a revision itself",
    ("download", "HF://datasets/o/r@v1/f", "--hf-revision", "x"): "with this URL, which names a revision itself",
    ("download", "hf://models/o/r@v1/f", "--hf-revision", "x"): "with this URL, which names a revision itself",
    ("download", URL, "--disable-back-to-source", "--back-to-source", "always"): "which says the contrary",
    ("download", URL, "-H", "A: b", "--back-to-source", "never"): "--header has no effect where the source is never",
    ("download", HUB, "--hf-token", "x", "--disable-back-to-source"): "--hf-token has no effect where the source",
    ("download", URL, "--storage-region", "x"): "--storage-region has no effect without --kind persistent",
    ("download", URL, "--content-for-calculating-task-id", "x", "--kind", "persistent"): "with --kind persistent",
    ("download", TASK_ID, "--store", "--overwrite"): "--overwrite has no effect without --output",
    ("download", TASK_ID, "-O", "-", "--overwrite"): "--overwrite has no effect with standard output",
    ("download", TASK_ID, "-O", "-", "--no-sync"): "--no-sync has no effect with standard output",
    ("download", TASK_ID, "-O", "o", "--progress", "bar", "-q"): "--quiet has no effect with --progress bar",
    ("download", TASK_ID, "-O", "o", "--progress", "bar", "--no-progress"): "--no-progress has no effect with",
    ("import", "f", "--task-id", "x", "--dragonfly-id"): "--dragonfly-id has no effect with --task-id",
    ("import", "f", "--storage-endpoint", "http://h", "--kind", "cache"): "--storage-endpoint has no effect without",
    ("import", "f", "--content-for-calculating-task-id", "x", "--kind", "persistent"): "with --kind persistent",
    ("export", TASK_ID, "-O", "-", "--overwrite"): "--overwrite has no effect with standard output",
    ("probe", "h:1", "--kind", "cache"): "--kind has no effect without --task",
}

ACCEPTED = (
    ("download", URL, "-O", "o", "-H", "A: b", "--tag", "x", "--piece-length", "4MiB", "--back-to-source", "always"),
    ("download", HUB, "--store", "--hf-token", "x", "--hf-revision", "v", "--hf-base-url", "http://h"),
    ("download", "hf://o/r@v1/f", "--store", "--revision", "v2"),
    ("download", URL, "--store", "--disable-back-to-source", "--back-to-source", "never"),
    ("download", URL, "--kind", "persistent", "--storage-region", "x", "--storage-endpoint", "http://h"),
    ("download", TASK_ID, "-O", "o", "--overwrite", "--no-sync", "--no-progress", "--quiet", "--progress", "jsonl"),
    ("download", "s3://bucket/key", "--storage-region", "x", "--storage-endpoint", "http://h", "-O", "o"),
    ("import", "f", "--task-id", "x", "--url", URL, "--tag", "t"),
    ("export", TASK_ID, "-O", "o", "--overwrite"),
    ("probe", "h:1", "--kind", "cache", "--task", TASK_ID),
)


class CombinationTests(SynchronousTestCase):
    """Command lines, as the parser sees them."""

    def test_refused(self) -> None:
        """Each is refused with the status of a wrong use, and one line that names option and reason; none is left."""
        unseen = {(command, rule.reason) for command, rules in RULES.items() for rule in rules}
        for words, expected in REFUSED.items():
            self.patch(sys, "stderr", said := StringIO())
            error = self.assertRaises(SystemExit, make_parser().parse_args, words)
            self.assertEqual(error.code, ExitStatus.USAGE, words)
            self.assertRegex(said.getvalue(), rf"\Adfvortex {words[0]}: --[^\n]* has no effect [^\n]*\n\Z")
            self.assertIn(expected, said.getvalue())
            unseen -= {(words[0], reason) for _, reason in unseen if reason in said.getvalue()}
        self.assertEqual(unseen, set())

    def test_accepted(self) -> None:
        """Options that have an effect together are accepted."""
        for words in ACCEPTED:
            self.assertEqual(make_parser().parse_args(words).command, words[0])

    def test_environment(self) -> None:
        """A variable, which is there for all commands, is no reason to refuse one; what the user types is."""
        self.patch(os, "environ", {**os.environ, "DFGET_TAG": "x", "DFGET_OVERWRITE": "true", "DFGET_HF_TOKEN": "t"})
        found: Namespace = make_parser().parse_args(["download", TASK_ID, "--store"])
        self.assertEqual((found.tag, found.overwrite, found.hf_token), ("x", True, "t"))
        self.patch(sys, "stderr", StringIO())
        self.assertRaises(SystemExit, make_parser().parse_args, ["download", TASK_ID, "--store", "--tag", "x"])
