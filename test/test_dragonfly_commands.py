"""Dragonfly's own dfget, dfcache and dfctl at the local door of a peer, where they are installed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest

from dragonfly_vortex.testing.scripted_origin import say, say_text
from test.rpc.test_source_tasks import SourceTestCase

VARIABLE = "DFVORTEX_DRAGONFLY_BIN"
"""The environment variable with the directory of Dragonfly's programs, where they are not on the PATH."""


class CommandTestCase(SourceTestCase):
    """A peer with a local door, and a source."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        search = os.environ.get(VARIABLE) or os.environ["PATH"]
        self.programs = {name: shutil.which(name, path=search) for name in ("dfget", "dfcache", "dfctl")}
        if None in self.programs.values():
            raise SkipTest(
                f"dfget, dfcache and dfctl are neither on the PATH nor in the directory that {VARIABLE} names"
            )
        await super().setUp()

    def run_command(self, name: str, *arguments: object) -> Deferred[tuple[int, str]]:
        """Run a command. Fires with its status and all that it has printed, without colours."""
        command = [str(self.programs[name]), *map(str, arguments), "--endpoint", str(self.directory / "peer.sock")]
        environment = {**os.environ, "HOME": str(self.directory)}

        def run() -> tuple[int, str]:
            ran = subprocess.run(
                command, capture_output=True, text=True, timeout=60, env=environment, cwd=self.directory, check=False
            )
            return ran.returncode, re.sub("\x1b\\[[0-9;]*m", "", ran.stdout + ran.stderr)

        return self.in_thread(run)


class DfgetTests(CommandTestCase):
    """``dfget``."""

    def dfget(self, url: str, output: Path, *arguments: object) -> Deferred[tuple[int, str]]:
        """Run dfget."""
        return self.run_command("dfget", url, "--output", output, "--no-progress", *arguments)

    async def test_download(self) -> None:
        """A fresh task comes from the source, and is a link to the storage's file; another output is one, too."""
        origin = self.origin()
        self.assertEqual(await self.dfget(origin.url(), self.output), (0, ""))
        self.assertEqual(self.output.read_bytes(), self.content)
        asked = len(origin.asked)
        another = self.directory / "another"
        self.assertEqual(await self.dfget(origin.url(), another, "--force-hard-link"), (0, ""))
        self.assertTrue(os.path.samefile(self.output, another))
        self.assertEqual(len(origin.asked), asked)

    async def test_overwrite(self) -> None:
        """A file that stands there is replaced if that is wanted."""
        self.output.write_text("mine")
        url = self.origin().url()
        status, said = await self.dfget(url, self.output)
        self.assertEqual((status, "is already exist" in said), (1, True))
        self.assertEqual(await self.dfget(url, self.output, "--overwrite"), (0, ""))
        self.assertEqual(self.output.read_bytes(), self.content)

    async def test_transfer(self) -> None:
        """The content comes over the socket, where that is wanted."""
        status = await self.dfget(self.origin().url(), self.output, "--transfer-from-dfdaemon")
        self.assertEqual((status, self.output.read_bytes()), ((0, ""), self.content))

    async def test_digest(self) -> None:
        """A right digest is accepted, and a wrong one is an error that is shown, without an output."""
        url, right = self.origin().url(), hashlib.sha256(self.content).hexdigest()
        for expected in ("0" * 64, right, "1" * 64):
            status, said = await self.dfget(url, self.output, "--digest", f"sha256:{expected}", "--overwrite")
            self.assertEqual((status, self.output.exists()), (int(expected != right), expected == right), said)
            if status:
                self.assertIn("Bad Code: Internal error", said)
                self.assertIn(right, said)

    async def test_range(self) -> None:
        """A range in a header is in the output, at its place."""
        status, said = await self.dfget(self.origin().url(), self.output, "--header", "Range: bytes=100-199")
        self.assertEqual(status, 0, said)
        self.assertEqual(self.output.read_bytes()[100:200], self.content[100:200])

    async def test_not_there(self) -> None:
        """The status and the headers of the source are shown."""
        status, said = await self.dfget(self.origin(always=say(404, X_Reason="gone")).url(), self.output)
        self.assertEqual(status, 1)
        for text in ("Bad Status Code: 404", "[x-reason]: gone"):
            self.assertIn(text, said)

    async def test_other_file_system(self) -> None:
        """Where a link is wanted and impossible, that is shown."""
        status, said = await self.dfget(self.origin().url(), Path("/proc/output"), "--force-hard-link")
        self.assertEqual(status, 1)
        self.assertIn("cannot link /proc/output", said)

    async def test_no_source(self) -> None:
        """Without a parent and a source it is said that there is none."""
        status, said = await self.dfget(self.origin().url(), self.output, "--disable-back-to-source")
        self.assertEqual(status, 1)
        self.assertIn("expected a parent or a source, got none", said)


class DirectoryTests(CommandTestCase):
    """``dfget --recursive``, which lists a directory first, and then downloads each file."""

    async def test_repository(self) -> None:
        """The files of a hub's repository are in the output's directory, with the directories below."""
        names = ("config.json", "weights/a b.bin")
        listed = say_text(json.dumps({"siblings": [{"rfilename": name, "size": 1} for name in names]}))
        origin = self.origin(listed)
        hub = ("--recursive", "--hf-base-url", origin.url(""), "--hf-revision", "v1", "--hf-token", "secret")
        output = self.directory / "output"
        output.mkdir()
        command = ("hf://owner/repository", "--output", output, "--no-progress", *hub)
        self.assertEqual(await self.run_command("dfget", *command), (0, ""))
        for name in names:
            self.assertEqual((output / name).read_bytes(), self.content)
        self.assertEqual(origin.asked[0].uri, "/api/models/owner/repository/revision/v1")
        files = {f"/owner/repository/resolve/v1/{quote(name)}" for name in names}
        self.assertEqual({each.uri for each in origin.asked[1:]}, files)
        self.assertEqual({each.headers.get("authorization") for each in origin.asked}, {"Bearer secret"})

    async def test_names_that_lead_out(self) -> None:
        """A name that would lead out of the output's directory is refused, and no file is asked for."""
        origin = self.origin(say_text(json.dumps({"siblings": [{"rfilename": "../../out"}]})))
        output = self.directory / "output"
        output.mkdir()
        command = ("hf://owner/repository/", "--output", output, "--no-progress", "--recursive")
        status, said = await self.run_command("dfget", *command, "--hf-base-url", origin.url(""))
        self.assertEqual((status, "expected the path of a file" in said), (1, True), said)
        self.assertEqual(len(origin.asked), 1)


class DfcacheTests(CommandTestCase):
    """``dfcache`` and ``dfctl``."""

    async def test_import_and_export(self) -> None:
        """A file is imported, described, and exported by both ways."""
        path = self.directory / "file"
        self.assertEqual((await self.run_command("dfcache", "import", path, "--no-progress"))[0], 0)
        _, listed = await self.run_command("dfctl", "persistent-cache-task", "ls")
        (task_id,) = re.findall("[0-9a-f]{64}", listed)
        self.assertEqual(task_id, hashlib.sha256(self.content + b"PERSISTENT_CACHE").hexdigest())
        status, said = await self.run_command("dfcache", "stat", task_id)
        self.assertEqual((status, task_id in said, "Succeeded" in said), (0, True, True), said)
        for number, more in enumerate(((), ("--transfer-from-dfdaemon",))):
            output = self.directory / f"output{number}"
            ran = await self.run_command("dfcache", "export", task_id, "--output", output, "--no-progress", *more)
            self.assertEqual(ran, (0, ""))
            self.assertEqual(output.read_bytes(), self.content)

    async def test_unknown(self) -> None:
        """An unknown task is an error with a code and the ID."""
        unknown = "0" * 64
        for command, code in (
            (("stat", unknown), "Some requested entity was not found"),
            (("export", unknown, "--output", self.output, "--no-progress"), "Internal error"),
        ):
            status, said = await self.run_command("dfcache", *command)
            self.assertEqual(status, 1)
            self.assertIn(f"Bad Code: {code}", said)
            self.assertIn(unknown, said)

    async def test_list_and_remove(self) -> None:
        """dfctl lists a task that dfget has fetched, removes it, and then lists it no more."""
        await self.run_command("dfget", self.origin().url(), "--output", self.output, "--no-progress")
        _, listed = await self.run_command("dfctl", "task", "ls")
        (task_id,) = re.findall("[0-9a-f]{64}", listed)
        status, said = await self.run_command("dfctl", "task", "rm", task_id)
        self.assertEqual((status, "Task Removed!" in said), (0, True), said)
        _, listed = await self.run_command("dfctl", "task", "ls")
        self.assertNotIn(task_id, listed)
        status, said = await self.run_command("dfctl", "task", "rm", task_id)
        self.assertEqual(status, 1)
        self.assertIn(f"task {task_id} not found", said)
