"""What can be written behind ``dfvortex``, and what ``docs/command-line.md`` says of it."""

from __future__ import annotations

import argparse
import functools
import os
import re
import shlex
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.cli.arguments import make_parser
from dragonfly_vortex.cli.exit_status import ExitStatus
from dragonfly_vortex.wire import ErrorReply, PieceKind, PieceRequest
from test.processes import PROGRAMS, Daemon, import_file, run, write_config

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "command-line.md"

TASK_ID = "0123456789abcdef" * 4


def sub_commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each sub-command, by its name."""
    (action,) = (each for each in make_parser()._actions if isinstance(each, argparse._SubParsersAction))
    return dict(action.choices)


class ParserTests(SynchronousTestCase):
    """Arguments, good and bad."""

    def parse(self, *arguments: str) -> argparse.Namespace:
        """What the parser makes of a command line."""
        return make_parser().parse_args(arguments)

    def download(self, *arguments: str) -> argparse.Namespace:
        """What the parser makes of a download."""
        return self.parse("download", TASK_ID, "--parent", "tcp://host:4005", "--output", "out", *arguments)

    def assert_refused(self, pattern: str, *arguments: str) -> None:
        """Assert that a command line is refused with status 2 and one line that matches a pattern."""
        self.patch(sys, "stderr", said := StringIO())
        error = self.assertRaises(SystemExit, self.parse, *arguments)
        self.assertEqual(error.code, ExitStatus.USAGE)
        self.assertRegex(said.getvalue(), rf"\Adfvortex.*: .*{pattern}.*\n\Z")

    def test_defaults(self) -> None:
        """What is left out has the value that the help tells."""
        self.assertEqual(
            vars(self.parse("import", "file")),
            {
                "command": "import",
                "path": Path("file"),
                "piece_length": None,
                "task_id": None,
                "dragonfly_id": False,
                "url": None,
                "tag": None,
                "application": None,
                "revision": None,
                "storage_region": None,
                "storage_endpoint": None,
                "content_for_calculating_task_id": None,
                "filtered_query_params": None,
                "ttl": None,
                "link": False,
                "timeout": None,
                "no_progress": False,
                "quiet": False,
                "config": None,
                "kind": PieceKind.STANDARD,
            },
        )
        self.assertEqual(
            vars(self.download()),
            {
                "command": "download",
                "task_id": TASK_ID,
                "digest": None,
                "parents": [ParentAddress(scheme="tcp", host="host", port=4005)],
                "parents_file": None,
                "protocol": None,
                "output": Path("out"),
                "store": False,
                "overwrite": False,
                "force_hard_link": False,
                "no_sync": False,
                "concurrency": None,
                "retry": 30.0,
                "timeout": None,
                "progress": "bar",
                "no_progress": False,
                "quiet": False,
                "config": None,
                "piece_length": None,
                "headers": None,
                "hf_token": None,
                "hf_revision": None,
                "hf_base_url": None,
                "back_to_source": None,
                "disable_back_to_source": False,
                "tag": None,
                "application": None,
                "revision": None,
                "storage_region": None,
                "storage_endpoint": None,
                "content_for_calculating_task_id": None,
                "filtered_query_params": None,
                "kind": PieceKind.STANDARD,
            },
        )
        self.assertIsNone(self.parse("stat", "x").kind)

    def test_kinds(self) -> None:
        """Each kind has a name."""
        names = ("standard", "persistent", "persistent-cache", "cache")
        self.assertEqual([self.parse("import", "--kind", name, "f").kind for name in names], list(PieceKind))
        self.assert_refused("unknown kind 'strange': expected one of standard, ", "import", "--kind", "strange", "f")

    def test_piece_length(self) -> None:
        """A piece length is a number of bytes, or one with a unit, up to 1 GiB."""
        lengths = [self.parse("import", "--piece-length", text, "f").piece_length for text in ("1", "4MiB", "1GiB")]
        self.assertEqual(lengths, [1, 4 << 20, 1 << 30])
        for text in ("0", "-1", "2GiB", "many", "1.5"):
            self.assert_refused(f"expected a size .*got '{text}'", "import", f"--piece-length={text}", "f")

    def test_concurrency(self) -> None:
        """A concurrency is a whole number from 1."""
        self.assertEqual([self.download("--concurrency", text).concurrency for text in ("1", "9999")], [1, 9999])
        for text in ("0", "-1", "10000", "x", "1.0", "٣"):
            self.assert_refused(
                f"from 1 to 9999, got '{text}'",
                *("download", TASK_ID, "--parent", "h:1", "--output", "o", f"--concurrency={text}"),
            )

    def test_task_id(self) -> None:
        """A SHA-256 is the same in capital letters; another ID is taken as it is."""
        self.assertEqual(self.parse("stat", TASK_ID.upper()).task_id, TASK_ID)
        self.assertEqual(self.parse("stat", "Some-Thing").task_id, "Some-Thing")
        arguments = ("--parent", "h:1", "--output", "o")
        self.assertEqual(self.parse("download", TASK_ID.upper(), *arguments).task_id, TASK_ID)
        self.assertEqual(self.parse("download", "Some-Thing", *arguments).task_id, "Some-Thing")

    def test_digest(self) -> None:
        """A digest is taken as it is on the wire: in small letters, and without zeros in front of a CRC-32."""
        for text, expected in (
            (f"sha256:{TASK_ID.upper()}", f"sha256:{TASK_ID}"),
            (f"sha512:{'AB' * 64}", f"sha512:{'ab' * 64}"),
            ("crc32:0012", "crc32:12"),
            ("none", ""),
        ):
            self.assertEqual(self.download("--digest", text).digest, expected)
        self.assertIsNone(self.download().digest)
        for text in ("", "sha256:ab", "md5:00", "crc32:ab", TASK_ID):
            self.assert_refused("got '", "download", TASK_ID, "--digest", text, "--output", "o")

    def test_parents(self) -> None:
        """Parents come with their scheme or without it, in the order in which they are named."""
        texts = ("10.0.0.1:1", "tcp://[::1]:65535", "tls://h:1", "grpc://h:4000", "grpcs://[::1]:4000")
        got = self.download(*(part for text in texts for part in ("--parent", text))).parents
        self.assertEqual(
            [str(each) for each in got],
            ["host:4005", "10.0.0.1:1", "[::1]:65535", "tls://h:1", "grpc://h:4000", "grpcs://[::1]:4000"],
        )

    def test_protocols(self) -> None:
        """What carries content is one of three words, or what the configuration says."""
        self.assertIsNone(self.download().protocol)
        for protocol in ("tcp", "grpc", "auto"):
            self.assertEqual(self.download("--protocol", protocol).protocol, protocol)
        for text in ("quic", "TCP", ""):
            self.assert_refused(
                "invalid choice", "download", TASK_ID, "--output", "o", "--parent", "h:1", "--protocol", text
            )

    def test_bad_parents(self) -> None:
        """Another scheme, or what is no address, is refused with what is expected."""
        for text, pattern in (
            ("quic://host:1", "expected a parent's address with one of tcp://, tls://, .*, got 'quic://host:1'"),
            ("http://host:1", "one of tcp://, tls://"),
            ("grpc://host", "expected an address HOST:PORT"),
            ("tcp://host", "expected an address HOST:PORT"),
            ("host:0", "port from 1 to 65535"),
            ("host:65536", "port from 1 to 65535"),
            ("::1:4005", "expected an address"),
            ("", "expected an address"),
            ("tcp://host:4005/path", "expected an address"),
        ):
            self.assert_refused(pattern, "download", TASK_ID, "--output", "o", "--parent", text)

    def test_output(self) -> None:
        """An output is a file or standard output: no text at all, and a directory, are refused."""
        self.assertEqual(self.download("--output", "a/out").output, Path("a/out"))
        self.assertEqual(self.download("-O", "-").output, "-")
        for text in ("", "out/", "/"):
            expected = rf"argument -O/--output: expected the path of a file, or -, got '{text}'"
            self.assert_refused(expected, "download", TASK_ID, "--parent", "host:4005", "--output", text)
            self.assert_refused(expected, "export", TASK_ID, "--output", text)

    def test_what_is_missing(self) -> None:
        """No command, an unknown one, and one without what it needs are one line each."""
        self.assert_refused("the following arguments are required: COMMAND")
        self.assert_refused("invalid choice: 'fetch'", "fetch")
        self.assert_refused("TASK_ID", "download")
        self.assert_refused("--output", "export", TASK_ID)
        self.assert_refused("PATH", "import")

    def test_one_line(self) -> None:
        """An argument with an end of line in it is shown in one line."""
        self.assert_refused(r"got '.*'", "download", TASK_ID, "--digest", "a\nb:c", "--output", "o")
        self.assert_refused(r"x\\ny", "list", "x\ny")


class DocumentTests(SynchronousTestCase):
    """What the documentation says of options."""

    def test_options(self) -> None:
        """The synopsis of each sub-command has all its options; those that are explained below it are among them."""
        text = DOCUMENT.read_text(encoding="utf-8")
        sections = dict(re.findall(r"(?ms)^### dfvortex (\w+)\n(.*?)(?=^### |\Z)", text))
        self.assertEqual(set(sections), set(sub_commands()))
        for name, parser in sub_commands().items():
            options = {each.option_strings[-1] for each in parser._actions if each.option_strings} - {"--help"}
            bullets = re.findall(r"(?m)^- (`--.*?)(?=^- |^$|\Z)", sections[name], re.DOTALL)
            listed = {each for bullet in bullets for each in re.findall(r"`(--[a-z-]+)", bullet.partition(":")[0])}
            self.assertLessEqual(listed, options, name)
            synopsis = sections[name].split("```")[1]
            self.assertEqual(set(re.findall(r"--[a-z-]+", synopsis)), options, name)
            metavars = [str(each.metavar) for each in parser._actions if not each.option_strings]
            positional = {word for metavar in metavars for word in re.split("[|:]", metavar)}
            self.assertLessEqual(positional, set(re.findall(r"\b[A-Z_]+\b", synopsis)), name)

    def test_help(self) -> None:
        """The help names every status."""
        told = make_parser().format_help()
        for status in ExitStatus:
            self.assertRegex(told, rf"\b{status.value}\s+{status.name.lower().split('_')[0]}")

    def test_whole_words(self) -> None:
        """No line of the help ends within an option's name or another word, so that each can be copied."""
        for name, parser in sub_commands().items():
            shown = parser.format_help().split()
            for action in parser._actions:
                for word in (action.help or "").split():
                    self.assertIn(word.replace("%%", "%"), shown, name)

    def test_help_of_options(self) -> None:
        """The help of each option says what holds without it."""
        for name, parser in sub_commands().items():
            for action in parser._actions:
                if action.option_strings and not action.required and "--help" not in action.option_strings:
                    self.assertIn("default: ", str(action.help), f"{name} {action.option_strings}")


class _Origin(SimpleHTTPRequestHandler):
    """Serves the files of a directory, and writes no log."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class ExampleTests(SynchronousTestCase):
    """The examples of the help."""

    def test_examples(self) -> None:
        """Each sub-command has examples, and each example does what it says, in a directory with what it names."""
        directory = Path(self.mktemp()).absolute()
        parent = directory / "parent"
        for each in (directory, parent):
            write_config(each)
            each.joinpath("model.bin").write_bytes(b"weights" * 1000)
        task_id = import_file(parent / "model.bin", directory=parent)
        request = PieceRequest(packet_id=1, kind=PieceKind.STANDARD, task_id=task_id, number=9).to_bytes()
        directory.joinpath("requests.bin").write_bytes(request)
        directory.joinpath("replies.bin").write_bytes(ErrorReply(packet_id=1, code=2, text="no such piece").to_bytes())
        web = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Origin, directory=str(parent)))
        threading.Thread(target=web.serve_forever, daemon=True).start()
        self.addCleanup(web.server_close)
        self.addCleanup(web.shutdown)
        with Daemon(parent) as daemon:
            real = {
                "TASK_ID": task_id,
                "127.0.0.1:4005": f"127.0.0.1:{daemon.port}",
                "127.0.0.1:4000": f"127.0.0.1:{daemon.grpc_port}",
                "127.0.0.1:8080": f"127.0.0.1:{web.server_port}",
            }
            for name, parser in sub_commands().items():
                examples = re.findall(rf"(?m)^  (dfvortex {name} .*|dfvortex {name})$", parser.format_help())
                self.assertNotEqual(examples, [], name)
                for example in examples:
                    for word, value in real.items():
                        example = example.replace(word, value)
                    self.assert_runs(example, directory)

    def assert_runs(self, example: str, directory: Path) -> None:
        """Assert that a command line runs to its end without an error."""
        command: list[str | Path] = [PROGRAMS / "dfvortex", *shlex.split(example)[1:]]
        if "|" in example:
            command = ["bash", "-c", f"set -o pipefail; {example}"]
        environment = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
        ran = run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), example)
