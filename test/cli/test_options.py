"""The options of several sub-commands."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dragonfly_vortex.cli.arguments import make_parser
from dragonfly_vortex.cli.options import read_config
from test.cli.test_arguments import TASK_ID, sub_commands
from test.config.files import ConfigFileTestCase


class CommonTests(SynchronousTestCase):
    """All parsers together."""

    def test_same_everywhere(self) -> None:
        """An option of one name takes the same kind of value in each command that has it."""
        seen: dict[str, tuple[str, object]] = {}
        for name, parser in sub_commands().items():
            for action in parser._actions:
                for option in action.option_strings:
                    metavar = str(action.metavar).removesuffix("|none")  # a digest that is verified need not be none
                    before = seen.setdefault(option, (name, metavar))
                    self.assertEqual(before[1], metavar, (option, name, before[0]))


#: The variables of dfget 1.5.10 (src/bin/dfget/main.rs) for what a download of ours can do, with a value and its field.
OF_DFGET = {
    "DFGET_OVERWRITE": ("true", "overwrite", True),
    "DFGET_FORCE_HARD_LINK": ("true", "force_hard_link", True),
    "DFGET_CONTENT_FOR_CALCULATING_TASK_ID": ("text", "content_for_calculating_task_id", "text"),
    "DFGET_TIMEOUT": ("2h", "timeout", 7200.0),
    "DFGET_PIECE_LENGTH": ("4mib", "piece_length", 4 << 20),
    "DFGET_APPLICATION": ("app", "application", "app"),
    "DFGET_TAG": ("tag", "tag", "tag"),
    "DFGET_STORAGE_REGION": ("eu", "storage_region", "eu"),
    "DFGET_STORAGE_ENDPOINT": ("http://s3", "storage_endpoint", "http://s3"),
    "DFGET_DISABLE_BACK_TO_SOURCE": ("true", "disable_back_to_source", True),
    "DFGET_HF_REVISION": ("v2", "hf_revision", "v2"),
    "DFGET_HF_TOKEN": ("token", "hf_token", "token"),
    "DFGET_HF_BASE_URL": ("http://hub", "hf_base_url", "http://hub"),
    "DFGET_NO_PROGRESS": ("true", "no_progress", True),
}

OF_IMPORT = ("CONTENT_FOR_CALCULATING_TASK_ID", "PIECE_LENGTH", "APPLICATION", "TAG", "TTL", "TIMEOUT", "NO_PROGRESS")
OF_EXPORT = ("OVERWRITE", "FORCE_HARD_LINK", "TIMEOUT", "NO_PROGRESS")


class EnvironmentTests(SynchronousTestCase):
    """Command lines, and variables."""

    def parse(self, arguments: Sequence[str], **variables: str) -> argparse.Namespace:
        """What the parser makes of a command line with these variables, and no others of ours."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("DFGET_", "DFCACHE_"))}
        self.patch(os, "environ", {**kept, **variables})
        return make_parser().parse_args(arguments)

    def test_all(self) -> None:
        """Each variable of dfget gives the value of its option; an option of the command line is stronger."""
        for variable, (text, field, value) in OF_DFGET.items():
            got = self.parse(["download", TASK_ID], **{variable: text})
            self.assertEqual(vars(got), {**vars(self.parse(["download", TASK_ID])), field: value}, variable)
        typed = ["download", "https://h/f", "-O", "o", "--tag", "mine", "--overwrite"]
        got = self.parse(typed, DFGET_TAG="x", DFGET_OVERWRITE="false")
        self.assertEqual((got.tag, got.overwrite), ("mine", True))

    def test_of_dfcache(self) -> None:
        """An import and an export take those of dfcache, and none takes those of another command."""
        variables = {variable.removeprefix("DFGET_"): each for variable, each in OF_DFGET.items()}
        variables["TTL"] = ("2h", "ttl", 7200)
        for command, prefix, names in (
            (("import", "f"), "DFCACHE_IMPORT_", OF_IMPORT),
            (("export", TASK_ID, "-O", "o"), "DFCACHE_EXPORT_", OF_EXPORT),
        ):
            for name in names:
                text, field, value = variables[name]
                self.assertEqual(getattr(self.parse(command, **{prefix + name: text}), field), value, prefix + name)
            others = {f"DFGET_{name}": text for name, (text, _, _) in variables.items()}
            self.assertEqual(vars(self.parse(command, **others)), vars(self.parse(command)))

    def test_wrong(self) -> None:
        """A value that cannot be used is named with its variable, and only where it would count."""
        for variable, text, expected in (
            ("DFGET_TIMEOUT", "5 x", "argument --timeout: DFGET_TIMEOUT: expected a duration of at most 100y"),
            ("DFGET_OVERWRITE", "1", "argument --overwrite: DFGET_OVERWRITE: expected true or false, got '1'"),
            ("DFGET_PIECE_LENGTH", "", "argument --piece-length: DFGET_PIECE_LENGTH: expected a size"),
        ):
            self.patch(sys, "stderr", said := StringIO())
            with self.assertRaises(SystemExit):
                self.parse(["download", TASK_ID], **{variable: text})
            self.assertIn(expected, said.getvalue())
            self.parse(["list"], **{variable: text})
        self.parse(["download", TASK_ID, "--timeout", "1s"], DFGET_TIMEOUT="5 x")

    def test_told(self) -> None:
        """The help names the variables."""
        for variable in OF_DFGET:
            self.assertIn(f"environment: {variable}", " ".join(sub_commands()["download"].format_help().split()))

    def test_real(self) -> None:
        """The real programs know all of these variables."""
        places = os.environ.get("DFVORTEX_DRAGONFLY_BIN", ""), os.environ["PATH"]
        for program, names in (
            (("dfget",), OF_DFGET),
            (("dfcache", "import"), [f"DFCACHE_IMPORT_{name}" for name in OF_IMPORT]),
            (("dfcache", "export"), [f"DFCACHE_EXPORT_{name}" for name in OF_EXPORT]),
        ):
            found = shutil.which(program[0], path=":".join(filter(None, places)))
            if found is None:
                raise SkipTest(f"no {program[0]} here")
            help_text = subprocess.run([Path(found), *program[1:], "--help"], capture_output=True, text=True).stdout
            for name in names:
                self.assertIn(f"[env: {name}=", help_text)


class ReadTests(ConfigFileTestCase):
    """What is said on standard error."""

    def said(self, content: str) -> str:
        """Read a file with this content; what is said, without the file's name."""
        file = self.write(content)
        with contextlib.redirect_stderr(io.StringIO()) as output:
            read_config(file)
        return output.getvalue().replace(file, "FILE")

    def test_unknown(self) -> None:
        """An unknown key is named in one line, with the nearest name."""
        self.assertEqual(
            self.said("storage: {dri: x}\ngc: {}\n"),
            "dfvortex: FILE: unknown keys, which are skipped: storage.dri (did you mean dir?)\n",
        )

    def test_known(self) -> None:
        """What the reference has is not a command's to tell."""
        self.assertEqual(self.said(f"storage: {{dir: {Path.cwd()}, keep: true}}\ngc: {{}}\n"), "")
