"""``dfvortex download URL`` as a process, from an origin on a socket."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cli.arguments import make_parser
from dragonfly_vortex.cli.exit_status import ExitStatus
from dragonfly_vortex.cli.source import SourceOptions, add_origin_options, origin_of
from dragonfly_vortex.config import default_config
from dragonfly_vortex.errors import InvalidOrigin
from dragonfly_vortex.identity import DEFAULT_FILTERED_QUERY_PARAMS, task_id_of
from dragonfly_vortex.model import BackToSource, Origin
from dragonfly_vortex.testing.scripted_origin import redirect, say
from test.processes import dfvortex, write_config
from test.source.origins import CONTENT, SourceCase


class CommandTests(SourceCase):
    """What the command does with the URL of a source."""

    timeout = 120.0

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)

    async def run_command(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``dfvortex download`` to its end, whose messages have no secret."""

        def run() -> subprocess.CompletedProcess[str]:
            return dfvortex("download", *arguments, directory=self.directory, environment=environment)

        ran: subprocess.CompletedProcess[str] = await deferToThread(run)
        self.assertNotIn("secret", ran.stdout + ran.stderr)
        return ran

    async def test_output(self) -> None:
        """The file is what lies at the URL; the task's ID is Dragonfly's, without the parameters of a signature."""
        origin = self.origin()
        url = origin.url("/dir/f?X-Amz-Signature=secret&part=1").replace("//", "//user:secret@")
        ran = await self.run_command(url, "--output", "out", "-H", "X-Key: secret", "--config", "tap.yaml")
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertEqual((self.directory / "out").read_bytes(), CONTENT)
        self.assertEqual({each.headers["x-key"] for each in origin.asked}, {"secret"})
        task_id = task_id_of(Origin(url=url, filtered_query_params=DEFAULT_FILTERED_QUERY_PARAMS))
        self.assertTrue(ran.stdout.endswith(f", 1 request to the source (no_parent), task {task_id}\n"), ran.stdout)
        self.assertIn("pieces of the source not verified (no digest is known), in", ran.stdout)

    async def test_store_and_again(self) -> None:
        """With ``--store`` the source is asked once: a second download finds all of it there."""
        origin = self.origin()
        digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
        for _ in range(2):
            ran = await self.run_command(origin.url(), "--store", "--digest", digest)
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            self.assertIn(f"verified against {digest}", ran.stdout)
            self.assertRegex(ran.stdout, r"(?m)^[0-9a-f]{64}: 300000 bytes in 1 piece, ")
        self.assertEqual(len(origin.ranges), 1)

    async def test_hub(self) -> None:
        """A file of a hub comes from a mirror, with the token of the command."""
        store = self.origin()
        hub = self.origin(always=redirect(store.url("/blob?sig=secret")))
        ran = await self.run_command(
            "hf://owner/repo@v1/f.bin",
            "--output",
            "out",
            "--hf-token",
            "secret",
            environment={"HF_ENDPOINT": hub.url(""), "HF_TOKEN": "another"},
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertEqual((self.directory / "out").read_bytes(), CONTENT)
        self.assertEqual(hub.asked[0].uri, "/owner/repo/resolve/v1/f.bin")
        self.assertEqual(hub.asked[0].headers["authorization"], "Bearer secret")
        self.assertNotIn("authorization", store.asked[0].headers)

    async def test_hub_as_dfget(self) -> None:
        """The options and variables of ``dfget`` for a hub name it and the revision; a revision in the URL counts."""
        hub = self.origin()
        variables = {"HF_ENDPOINT": "http://127.0.0.1:1", "DFGET_HF_REVISION": "v2", "DFGET_HF_TOKEN": "secret"}
        for url, expected in (("hf://o/r/f", "/o/r/resolve/v2/f"), ("hf://o/r@v1/f", "/o/r/resolve/v1/f")):
            ran = await self.run_command(
                *(url, "-O", "out", "--overwrite", "--hf-base-url", hub.url("")),
                environment=variables,
            )
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            self.assertEqual(hub.asked[-1].uri, expected)
            self.assertEqual(hub.asked[-1].headers["authorization"], "Bearer secret")

    async def test_failures(self) -> None:
        """What goes wrong has a status, and an error of one line."""
        origin = self.origin()
        wrong = f"sha256:{'0' * 64}"
        for fault, options, status, said in (
            (say(404), (), 3, "got not found"),
            (say(403), (), 1, "expected status 200 or 206, got 403"),
            (None, ("--digest", wrong), 4, "expected"),
            (None, ("--back-to-source", "never"), 2, "expected a parent"),
            (None, ("--disable-back-to-source",), 2, "because back_to_source is never"),
        ):
            origin.always = fault
            ran = await self.run_command(origin.url("/f?sig=secret"), "--output", "out", *options)
            self.assertEqual(ran.returncode, status, ran)
            self.assertEqual(len(ran.stderr.splitlines()), 1, ran.stderr)
            self.assertIn(said, ran.stderr)
        self.assertFalse((self.directory / "out").exists())

    async def test_no_source(self) -> None:
        """A URL of another scheme, or without one, is an error that names the schemes, also with a digest."""
        for url in ("ftp://user:secret@h/f?sig=secret", "h:80/f?sig=secret", "http:/h/f"):
            for options in ((), ("--digest", "none")):
                ran = await self.run_command(url, "--output", "out", *options)
                self.assertEqual(ran.returncode, 2, ran)
                self.assertEqual(len(ran.stderr.splitlines()), 1, ran.stderr)
                self.assertIn("a URL that begins with http://, https://, hf:// or s3://", ran.stderr)


class OptionTests(SynchronousTestCase):
    """The options, without a process."""

    def parse(self, *arguments: str) -> Namespace:
        """Parse the options of a download of a URL."""
        return make_parser().parse_args(["download", "https://h/f?a=1&X-Amz-Signature=secret", *arguments])

    def test_refused(self) -> None:
        """A wrong policy and a header that a download sets itself are wrong uses, told without the value."""
        for arguments, said in (
            (("--back-to-source", "sometimes"), "expected one of never, last_resort, always, got 'sometimes'"),
            (("-H", "Range: secret"), "expected a header that a download does not set itself, got Range"),
        ):
            told = StringIO()
            self.patch(sys, "stderr", told)
            self.assertEqual(self.assertRaises(SystemExit, self.parse, *arguments).code, ExitStatus.USAGE)
            self.assertIn(said, told.getvalue())
            self.assertNotIn("secret", told.getvalue())

    def test_task(self) -> None:
        """The URL and the options make the ID; without a digest there is none. The command's policy counts."""
        arguments = self.parse("--tag", "t", "--piece-length", "8MiB", "--back-to-source", "always")
        source = SourceOptions(arguments, default_config())
        self.assertIsNotNone(source.origin)
        self.assertEqual((arguments.digest, source.policy, source.is_asked), ("", BackToSource.ALWAYS, True))
        expected = hashlib.sha256(b"https://h/f?a=1t8388608STANDARD").hexdigest()
        self.assertEqual(arguments.task_id, expected)
        self.assertFalse(SourceOptions(self.parse("--back-to-source", "never"), default_config()).is_asked)

    def test_policy(self) -> None:
        """A policy that the user types counts where a variable of the environment disables the source."""
        self.patch(os, "environ", {**os.environ, "DFGET_DISABLE_BACK_TO_SOURCE": "true"})
        self.assertEqual(SourceOptions(self.parse(), default_config()).policy, BackToSource.NEVER)
        source = SourceOptions(self.parse("--back-to-source", "always"), default_config())
        self.assertEqual(source.policy, BackToSource.ALWAYS)

    def test_no_url(self) -> None:
        """A task's ID names no source."""
        arguments = make_parser().parse_args(["download", "0" * 64])
        source = SourceOptions(arguments, default_config())
        self.assertEqual((source.origin, source.is_asked, arguments.digest), (None, False, None))


class OriginTests(SynchronousTestCase):
    """Arguments become origins."""

    def origin(self, *arguments: str, url: str = "", piece_length: int | None = None) -> Origin:
        """The origin that a command line tells."""
        parser = ArgumentParser()
        add_origin_options(parser)
        return origin_of(parser.parse_args(arguments), url, piece_length)

    def test_nothing_told(self) -> None:
        """Without options there are the defaults of dfget."""
        self.assertEqual(self.origin(), Origin(filtered_query_params=DEFAULT_FILTERED_QUERY_PARAMS))

    def test_all_told(self) -> None:
        """Each option is a field; the URL is normalized, as dfget does it."""
        self.assertEqual(
            self.origin(
                *("--tag", "t", "--application", "a", "--revision", "r"),
                *("--content-for-calculating-task-id", "text", "--filtered-query-param", "x"),
                *("--filtered-query-param", "y", "--storage-region", "s", "--storage-endpoint", "https://e"),
                url="HTTPS://Example.com:443/a/../b",
                piece_length=4 << 20,
            ),
            Origin(
                url="https://example.com/b",
                tag="t",
                application="a",
                filtered_query_params=("x", "y"),
                revision="r",
                piece_length=4 << 20,
                content_for_calculating_task_id="text",
                region="s",
                endpoint="https://e",
            ),
        )

    def test_hubs(self) -> None:
        """A hub's repository has the revision that dfget asks for."""
        for url, expected in (("hf://o/r/f", "main"), ("modelscope://o/r/f", "master"), ("https://o/r", "")):
            self.assertEqual(self.origin(url=url).revision, expected)
        self.assertEqual(self.origin("--revision", "v1", url="hf://o/r/f").revision, "v1")

    def test_revision_of_a_hub(self) -> None:
        """The revision is that of either option, or the hub's own where none is named."""
        for options, expected in ((("--revision", "v1"), "v1"), (("--hf-revision", "v2"), "v2"), ((), "main")):
            arguments = make_parser().parse_args(["download", "hf://o/r/f", *options])
            origin = SourceOptions(arguments, default_config()).origin
            self.assertEqual(origin and origin.revision, expected)

    def test_no_url(self) -> None:
        """What is no URL is refused."""
        self.assertRaises(InvalidOrigin, self.origin, url="file.txt")
