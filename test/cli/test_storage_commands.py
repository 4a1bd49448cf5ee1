"""The sub-commands that work on the storage, as processes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cli import storage_commands
from dragonfly_vortex.cli.arguments import make_parser
from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.wire import ErrorReply, PieceContent, PieceKind
from test.mounts import run_with_mounts
from test.processes import PROGRAMS, Child, Daemon, dfvortex, import_file, run, write_config
from test.storage.contents import put_in_two_kinds

_READ_ONLY = """
directory, command, task_id, output = Path(sys.argv[1]), *sys.argv[2:]
read_only(directory)
for arguments in (
    ["list"], ["stat", task_id], ["export", "--output", output, task_id], ["verify", task_id], ["remove", task_id]
):
    ran = subprocess.run([command, *arguments], cwd=directory, capture_output=True, text=True)
    print(ran.returncode, *ran.stderr.splitlines())
"""


class StoredTests(SynchronousTestCase):
    """The sub-commands in a directory of their own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)
        self.content = os.urandom(2_500_000)
        self.file = self.directory / "file"
        self.file.write_bytes(self.content)
        self.task_id = hashlib.sha256(self.content).hexdigest()

    def run_it(self, *arguments: str | Path) -> CompletedProcess[str]:
        """Run the command."""
        return dfvortex(*arguments, directory=self.directory)

    def assert_done(self, *arguments: str | Path) -> str:
        """Assert that a command does what it should and says nothing on standard error; gives its output."""
        ran = self.run_it(*arguments)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran)
        return ran.stdout

    def assert_fails(self, status: int, pattern: str, *arguments: str | Path) -> None:
        """Assert that a command ends with a status, with one line that matches a pattern, and without output."""
        ran = self.run_it(*arguments)
        self.assertEqual((ran.returncode, ran.stdout), (status, ""), ran)
        self.assertRegex(ran.stderr, rf"\Adfvortex: .*{pattern}.*\n\Z")

    def stored(self, kind: str = "tasks") -> Path:
        """Where the task's content lies."""
        return self.directory / "data" / "content" / kind / self.task_id[:3] / self.task_id

    def test_import(self) -> None:
        """The last line is the task's ID, the one before tells length and pieces."""
        said = self.assert_done("import", "--piece-length", "4MiB", "file")
        self.assertEqual(said, f"file: 2500000 bytes in 1 piece of at most 4194304 bytes\n{self.task_id}\n")
        self.assertTrue(self.stored().read_bytes() == self.content)

    def test_import_pieces_of_another_length(self) -> None:
        """A piece length that children of Dragonfly do not expect is named, unless it is part of the ID."""
        ran = self.run_it("import", "--piece-length", "8MiB", "file")
        self.assertEqual(ran.returncode, 0)
        self.assertEqual(
            ran.stderr,
            "dfvortex: file: children of Dragonfly expect pieces of 4194304 bytes, and cannot use those of 8388608\n",
        )
        self.assert_done("import", "--piece-length", "8MiB", "--url", "https://example.com/f", "file")

    def test_import_from_url(self) -> None:
        """A file gets the ID that its URL has in Dragonfly; list and stat tell origin and digest, without a query."""
        url = "https://Example.com/f?b=2&Signature=x&a=1"
        said = self.assert_done("import", "--url", url, "--tag", "t", "--piece-length", "4MiB", "file")
        task_id = hashlib.sha256(b"https://example.com/f?a=1&b=2t4194304STANDARD").hexdigest()
        self.assertEqual(said.splitlines()[-1], task_id)
        digest, kept = f"sha256:{self.task_id}", "https://example.com/f?..."
        self.assertTrue(self.assert_done("list").endswith(f"  {digest[:19]}  {kept}\n"))
        self.assertIn(
            f"\ndigest:        {digest}\norigin:        url {kept}\norigin:        tag t\n"
            "origin:        piece_length 4194304\n",
            self.assert_done("stat", task_id),
        )
        self.assertEqual(self.assert_done("verify"), f"{task_id}  standard: 1 piece, sound\n")
        said = self.assert_done("export", "--output", "out", task_id)
        self.assertTrue(said.endswith(f", verified against {digest}\n"), said)

    def test_import_as_dragonfly(self) -> None:
        """Files get the IDs that dfcache makes, objects theirs, and each the one that is given."""
        for arguments, expected in (
            (("--kind", "persistent-cache", "--dragonfly-id"), self.content + b"PERSISTENT_CACHE"),
            (("--kind", "persistent-cache", "--tag", "t"), self.content + b"tPERSISTENT_CACHE"),
            (
                ("--kind", "persistent", "--url", "s3://b/k", "--storage-region", "r", "--storage-endpoint", "e"),
                b"s3://b/krePERSISTENT",
            ),
            (("--content-for-calculating-task-id", "text"), b"text"),
            (("--content-for-calculating-task-id", "text", "--piece-length", "4MiB"), b"text"),
        ):
            said = self.assert_done("import", *arguments, "file").splitlines()
            self.assertEqual(said[-1], hashlib.sha256(expected).hexdigest())
        self.assertEqual(self.assert_done("import", "--task-id", "ab" * 32, "file").splitlines()[-1], "ab" * 32)
        self.assert_fails(2, "expected a URL, or a text", "import", "--application", "a", "file")
        self.assert_fails(2, "tasks of kind cache", "import", "--kind", "cache", "--dragonfly-id", "file")
        self.assert_fails(1, "expected a task ID of 3 to 200", "import", "--task-id", "../x", "file")

    def test_import_in_many_pieces(self) -> None:
        """One with very many pieces says first that it takes long."""
        self.file.write_bytes(self.content[:3])
        self.patch(storage_commands, "_MANY_PIECES", 2)
        config = self.directory / "own.yaml"
        config.write_text(f"storage: {{dir: {self.directory / 'data'}}}\n")
        command = ["import", "--config", str(config), "--piece-length", "1", str(self.file)]
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            storage_commands.import_task(make_parser().parse_args(command))
        self.assertEqual(
            said.getvalue().splitlines()[0],
            f"dfvortex: {self.file}: 3 pieces take long; a larger --piece-length gives fewer",
        )

    def test_read_only(self) -> None:
        """On a read-only file system what only reads works, also of a copy with a log that was not written back."""
        self.assert_done("import", "file")
        image = self.directory / "image"
        write_config(image)
        with Catalog(self.directory / "data") as catalog:
            (task,) = catalog.list_tasks()
            pieces = catalog.get_pieces(task.kind, task.task_id)
            catalog.put_task(task, [piece.metadata for piece in pieces])
            shutil.copytree(self.directory / "data", image / "data", ignore=shutil.ignore_patterns("*-shm"))
        self.assertIn("catalog.sqlite3-wal", os.listdir(image / "data"))
        for directory in (self.directory, image):
            output = Path(self.mktemp()).absolute()
            said = run_with_mounts(_READ_ONLY, directory, PROGRAMS / "dfvortex", self.task_id, output)
            refused = f"1 dfvortex: cannot open {directory}/data/catalog.sqlite3: Read-only file system"
            self.assertEqual(said, ["0", "0", "0", "0", refused])
            self.assertTrue(output.read_bytes() == self.content)

    def test_no_storage(self) -> None:
        """What only reads makes no storage where there is none."""
        self.assertEqual(self.assert_done("list"), "")
        self.assert_fails(3, "not found", "stat", self.task_id)
        self.assertFalse((self.directory / "data").exists())

    def test_import_kinds(self) -> None:
        """A file can be a task of any kind, but of one at a time; it lies in its kind's directory."""
        for kind in PieceKind:
            self.assert_done("import", "--kind", kind.label, "file")
            self.assertTrue(self.stored(kind.directory).is_file())
            other = "cache" if kind is PieceKind.STANDARD else "standard"
            self.assert_fails(1, f"the storage has it as {kind.label}", "import", "--kind", other, "file")
            self.assertIn(f"  {kind.label} ", self.assert_done("list"))
            self.assert_done("remove", self.task_id)
        with Catalog(self.directory / "data") as catalog:  # as an earlier version could have it
            task = StoredTask(
                kind=PieceKind.STANDARD, task_id=self.task_id, content_length=None, piece_length=1000, created_at=1
            )
            catalog.put_task(task, ())
        put_in_two_kinds(self.directory / "data", task)
        self.assert_fails(2, "several kinds: expected --kind with one of cache, standard", "stat", self.task_id)
        self.assertRegex(self.assert_done("stat", "--kind", "cache", self.task_id), r"(?m)^kind: +cache$")
        self.assert_done("remove", "--kind", "cache", self.task_id)
        self.assert_fails(3, "not found", "stat", "--kind", "cache", self.task_id)

    def test_import_ttl(self) -> None:
        """The time for which a task is kept is written as in the configuration, and ``stat`` shows it."""
        for kind, text, shown in (
            ("standard", "1.5h", "5400 s after its last use"),
            ("persistent", "90", "90 s after its creation"),
            ("cache", "0", "until it is removed"),
            ("standard", "", "until it is removed"),
        ):
            self.assert_done("import", "--kind", kind, *(["--ttl", text] if text else []), "file")
            self.assertRegex(self.assert_done("stat", self.task_id), rf"(?m)^kept: +{shown}$")
            self.assert_done("remove", self.task_id)
        ran = self.run_it("import", "--ttl", "x", "file")
        self.assertEqual(ran.returncode, 2)
        self.assertIn("expected a duration of at most 100y, such as 90s, 1h30m or 90 (seconds), got 'x'", ran.stderr)

    def test_import_by_link(self) -> None:
        """With ``--link`` the storage has the file itself and no copy."""
        self.assert_done("import", "--link", "file")
        self.assertTrue(self.stored().samefile(self.file))

    def test_import_what_is_no_file(self) -> None:
        """What is not there, or no regular file, is refused."""
        self.assert_fails(1, "cannot import none: No such file", "import", "none")
        self.assert_fails(1, r"cannot import \.: expected a regular file", "import", ".")

    def test_list(self) -> None:
        """An empty storage has no lines; another has headings and a line for each task."""
        self.assertEqual(self.assert_done("list"), "")
        import_file(self.file, directory=self.directory)
        headings, line = self.assert_done("list").splitlines()
        self.assertEqual(headings.split(), ["TASK", "ID", "KIND", "BYTES", "PIECES", "CREATED", "DIGEST", "ORIGIN"])
        self.assertRegex(
            line,
            rf"^{self.task_id}  standard +2500000 +1  20\d\d-\d\d-\d\d \d\d:\d\d:\d\d  sha256:{self.task_id[:12]}  -$",
        )
        self.assertEqual(headings.index("CREATED"), line.index("  20") + 2)

    def test_stat(self) -> None:
        """A task is shown with its lengths and pieces, whichever way its ID is written."""
        self.assert_fails(3, f"task {self.task_id} not found", "stat", self.task_id)
        import_file(self.file, directory=self.directory, piece_length=1_000_000)
        said = self.assert_done("stat", self.task_id.upper())
        self.assertRegex(
            said,
            rf"\Atask: +{self.task_id}\nkind: +standard\nbytes: +2500000\npiece length: +1000000\n"
            r"pieces: +3 of 3, 0 damaged\ncreated: +20.*\nlast used: +20.*\n"
            rf"digest: +sha256:{self.task_id}\n\Z",
        )

    def test_strange_ids(self) -> None:
        """An impossible ID is not found; none leads out of the storage."""
        for text in ("x", "../../../etc/passwd", "a" * 300, "a/b", " "):
            for command in (("stat",), ("remove",), ("export", "--output", "out")):
                self.assert_fails(3, "not found", *command, text)

    def test_export(self) -> None:
        """The content becomes a file again; one that stands there stays, unless it may be overwritten."""
        import_file(self.file, directory=self.directory)
        said = self.assert_done("export", self.task_id, "--output", "out")
        way = "(by reflink|by copy_file_range|copied)"
        self.assertRegex(said, rf"\Aout: 2500000 bytes {way}, verified against sha256:{self.task_id}\n\Z")
        out = self.directory / "out"
        self.assertTrue(out.read_bytes() == self.content)
        out.write_text("another")
        self.assert_fails(2, "out", "export", self.task_id, "--output", "out")
        self.assertEqual(out.read_text(), "another")
        self.assert_done("export", self.task_id, "--output", "out", "--overwrite")
        self.assertTrue(out.read_bytes() == self.content)

    def test_export_as_dfcache(self) -> None:
        """The options of ``dfcache export`` do what they do there: a link, a digest that must fit, a limit of time."""
        import_file(self.file, directory=self.directory)
        digest = f"crc32:{zlib.crc32(self.content)}"
        said = self.assert_done("export", self.task_id, "-O", "out", "--force-hard-link", "--digest", digest)
        self.assertEqual(said, f"out: 2500000 bytes by hard link, verified against {digest}\n")
        self.assertTrue((self.directory / "out").samefile(self.stored()))
        self.assert_fails(
            4, "expected a content with .*crc32:1", "export", self.task_id, "-O", "o", "--digest", "crc32:1"
        )
        self.assert_fails(6, "expected to be done within 0 s", "export", self.task_id, "-O", "o", "--timeout", "0")
        self.assert_fails(2, "got standard output", "export", self.task_id, "-O", "-", "--force-hard-link")
        self.assert_fails(6, "expected to be done within 0 s", "import", "file", "--timeout", "0")
        self.assertFalse((self.directory / "o").exists())

    def test_quiet(self) -> None:
        """With ``--quiet`` there is the task's ID, and what is damaged, and nothing else."""
        self.assertEqual(self.assert_done("import", "file", "--quiet"), f"{self.task_id}\n")
        self.assertEqual(self.assert_done("export", self.task_id, "-O", "out", "-q"), "")
        self.assertEqual(self.assert_done("verify", "-q"), "")
        with self.stored().open("r+b") as file:
            file.write(bytes([self.content[0] ^ 1]))
        self.assertIn("damaged: piece 0", self.run_it("verify", "-q").stdout)

    def test_export_of_damage(self) -> None:
        """Content that is not what it was is not exported; what is damaged shows, and importing it again heals it."""
        import_file(self.file, directory=self.directory, piece_length=1_000_000)
        with self.stored().open("r+b") as file:
            file.seek(1_500_000)
            file.write(bytes([self.content[1_500_000] ^ 1]))
        self.assert_fails(4, f"piece {self.task_id}-1: expected ", "export", self.task_id, "--output", "out")
        self.assertEqual(sorted(each.name for each in self.directory.iterdir()), ["data", "file", "tap.yaml"])
        said = self.assert_done("stat", self.task_id)
        self.assertRegex(said, r"(?m)^pieces: +3 of 3, 1 damaged$")
        self.assertRegex(said, r"(?m)^damaged: +piece 1: expected the digest crc32:\d+, got crc32:\d+$")
        import_file(self.file, directory=self.directory, piece_length=1_000_000)
        self.assertIn(", 0 damaged", self.assert_done("stat", self.task_id))
        self.assert_done("export", self.task_id, "--output", "out")

    def test_killed_import(self) -> None:
        """What a killed import has left goes with the next import by link, removal, or start of a peer."""
        task_id = import_file(self.file, directory=self.directory)
        content = self.directory / "data" / "content"

        def serve() -> str:
            with Daemon(self.directory) as daemon, Child(daemon.address) as child:
                child.ask(task_id)
                return str(child.next_event())  # it is answered behind the opening of the storage

        left = content / ".import.0123456789ab.dfvortex-part"
        acts: list[Callable[[], str]] = [
            lambda: self.assert_done("import", "--link", "file"),
            serve,
            lambda: self.assert_done("remove", task_id),
        ]
        for act in acts:
            left.touch()
            act()
            self.assertFalse(left.exists())

    def test_prefix(self) -> None:
        """The beginning of an ID is enough, if it is long enough and no other ID begins so."""
        import_file(self.file, directory=self.directory)
        prefix = self.task_id[:4]
        self.assertIn(self.task_id, self.assert_done("stat", prefix.upper()))
        self.assert_done("export", prefix, "--output", "out")
        self.assertIn(self.task_id, self.assert_done("verify", prefix))
        expected = f"task {self.task_id[:3]} not found: expected a task ID, or four or more characters of its beginning"
        self.assert_fails(3, expected, "stat", self.task_id[:3])
        self.assert_fails(3, "not found", "stat", "0000" if prefix != "0000" else "1111")
        other = f"{prefix}-another"
        with Catalog(self.directory / "data") as catalog:
            task = StoredTask(
                kind=PieceKind.STANDARD, task_id=other, content_length=None, piece_length=1000, created_at=1
            )
            catalog.put_task(task, ())
        put_in_two_kinds(self.directory / "data", task)
        for command in (("stat",), ("remove",), ("verify",), ("export", "--output", "out")):
            self.assert_fails(2, f"{prefix}, with which {other}, {self.task_id} begin", *command, prefix)
        self.assert_fails(2, f"{other} exists in several kinds", "stat", f"{prefix}-")
        self.assertIn(other, self.assert_done("stat", "--kind", "cache", prefix))
        self.assert_done("remove", self.task_id[:10])

    def test_export_to_standard_output(self) -> None:
        """``-`` is standard output; a piece that is damaged is not written, and the status says that it is not all."""
        import_file(self.file, directory=self.directory, piece_length=1_000_000)
        command: list[str | Path] = [PROGRAMS / "dfvortex", "export", "--output", "-", self.task_id]
        ran = run(command, cwd=self.directory, capture_output=True, timeout=60)
        self.assertEqual(
            (ran.returncode, ran.stderr),
            (0, b"-: 2500000 bytes copied, verified against sha256:%s\n" % self.task_id.encode()),
        )
        self.assertTrue(ran.stdout == self.content)
        with self.stored().open("r+b") as file:
            file.seek(1_500_000)
            file.write(bytes([self.content[1_500_000] ^ 1]))
        ran = run(command, cwd=self.directory, capture_output=True, timeout=60)
        self.assertEqual((ran.returncode, ran.stderr.count(b"\n")), (4, 1))
        self.assertTrue(ran.stdout == self.content[:1_000_000])
        self.assertFalse((self.directory / "-").exists())

    def test_remove(self) -> None:
        """A task that was removed is gone, and cannot be removed again."""
        import_file(self.file, directory=self.directory)
        self.assertEqual(self.assert_done("remove", self.task_id), "")
        self.assertEqual(self.assert_done("list"), "")
        self.assertFalse(self.stored().exists())
        self.assert_fails(3, f"task {self.task_id} not found", "remove", self.task_id)

    def test_unusable_storage(self) -> None:
        """A storage that is no directory is one line and status 1, whatever was to be done."""
        self.directory.joinpath("data").write_text("a file, not a directory")
        for arguments in (
            ("list",),
            ("stat", self.task_id),
            ("import", "file"),
            ("export", self.task_id, "--output", "out"),
            ("remove", self.task_id),
        ):
            self.assert_fails(1, "cannot open .*data/catalog.sqlite3: ", *arguments)

    def test_another_configuration(self) -> None:
        """``--config`` names another storage, relative to that file."""
        write_config(self.directory / "below")
        self.assert_done("import", "file", "--config", "below/tap.yaml")
        self.assertTrue((self.directory / "below" / "data").is_dir())
        self.assertIn(self.task_id, self.assert_done("list", "--config", "below/tap.yaml"))
        self.assertEqual(self.assert_done("list"), "")


class VerifyTests(SynchronousTestCase):
    """``verify``, beside a peer that serves the same storage."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)
        write_config(self.directory / "parent")
        self.file = self.directory / "file"
        self.file.write_bytes(os.urandom(2_500_000))

    def test_storage(self) -> None:
        """All tasks are verified, or those of a kind; the status tells whether anything is damaged."""
        self.assertEqual(dfvortex("verify", directory=self.directory).stdout, "")
        task_id = import_file(self.file, directory=self.directory, piece_length=1_000_000)
        self.file.write_bytes(os.urandom(1000))
        cached = import_file(self.file, directory=self.directory, kind=PieceKind.CACHE)
        ran = dfvortex("verify", "--rate-limit", "1GB", directory=self.directory)
        lines = {f"{cached}  cache: 1 piece, sound", f"{task_id}  standard: 3 pieces, sound"}
        self.assertEqual(set(ran.stdout.splitlines()), lines)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        (self.directory / "data" / "content" / "tasks" / task_id[:3] / task_id).unlink()
        ran = dfvortex("verify", directory=self.directory)
        self.assertEqual((ran.returncode, ran.stderr), (4, ""))
        self.assertIn(
            f"{task_id}  standard: 3 pieces, 3 damaged\ndamaged: piece 0: expected a file, got none\n", ran.stdout
        )
        ran = dfvortex("verify", "--kind", "cache", directory=self.directory)
        self.assertEqual((ran.returncode, ran.stdout), (0, f"{cached}  cache: 1 piece, sound\n"))
        self.assertEqual(dfvortex("verify", "none", directory=self.directory).returncode, 3)

    def test_healed(self) -> None:
        """A rotten piece is not served any more once it has been found, and a download fetches it again, alone."""
        task_id = import_file(self.file, directory=self.directory, piece_length=1_000_000)
        import_file(self.file, directory=self.directory / "parent", piece_length=1_000_000)
        stored = self.directory / "data" / "content" / "tasks" / task_id[:3] / task_id
        with stored.open("r+b") as file:
            file.seek(1_500_000)
            file.write(b"rotten")
        with Daemon(self.directory) as daemon, Daemon(self.directory / "parent") as parent:
            with Child(daemon.address) as child:
                child.ask(task_id, 1)
                self.assertIsInstance(child.next_event(), PieceContent)
            ran = dfvortex("verify", task_id[:8], directory=self.directory)
            self.assertEqual(ran.returncode, 4)
            self.assertRegex(ran.stdout, r"^\w+  standard: 3 pieces, 1 damaged\ndamaged: piece 1: expected the digest ")
            with Child(daemon.address) as child:
                child.ask(task_id, 1)
                self.assertIsInstance(child.next_event(), ErrorReply)
                child.ask(task_id, 0)
                self.assertIsInstance(child.next_event(), PieceContent)
            ran = dfvortex("download", task_id, "--parent", parent.parent, "--store", directory=self.directory)
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertEqual(dfvortex("verify", directory=self.directory).returncode, 0)
        self.assertEqual(stored.read_bytes(), self.file.read_bytes())
        with Catalog(self.directory / "data") as catalog:
            parents = [piece.metadata.parent_id for piece in catalog.get_pieces(PieceKind.STANDARD, task_id)]
        self.assertEqual(parents, ["", parent.parent.removeprefix("tcp://"), ""])


class CollectTests(SynchronousTestCase):
    """``dfvortex gc``."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory, more="gc: {enable: false, policy: {task_ttl: 1h, disk_threshold: 5GB}}\n")
        (self.directory / "file").write_bytes(bytes(100_000))

    def run_it(self, *arguments: str) -> str:
        """Run the command, which succeeds."""
        ran = dfvortex(*arguments, directory=self.directory)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran)
        return ran.stdout

    def age(self, seconds: float) -> None:
        """Have all tasks been downloaded, and used last, so long ago."""
        with Catalog(self.directory / "data") as catalog, catalog._database.change() as connection:
            connection.execute(
                "UPDATE task SET created_at = ?, used_at = 0, ttl = NULL, is_pinned = 0", (int(time.time() - seconds),)
            )

    def test_collected(self) -> None:
        """A task whose time is over is deleted, or only shown; each line says what is free by that and why."""
        task_id = import_file(self.directory / "file", directory=self.directory)
        self.age(3000)
        self.assertEqual(self.run_it("gc"), "0 tasks deleted, 0 bytes freed, 0 tasks in use\n")
        self.age(3610)
        for arguments, would in ((("gc", "--dry-run"), "would be "), (("gc",), "")):
            headings, line, last = self.run_it(*arguments).splitlines()
            self.assertEqual(headings.split(), ["TASK", "ID", "KIND", "FREED", "REASON"])
            self.assertRegex(line, rf"^{task_id}  standard +1\d{{5}}  its time is over \(gc.policy.task_ttl\)$")
            self.assertRegex(last, rf"^1 task {would}deleted, 1\d{{5}} bytes {would}freed, 0 tasks in use$")
        self.assertEqual(self.run_it("list"), "")

    def test_linked(self) -> None:
        """Content that is a hard link is said to free nothing."""
        self.run_it("import", "--link", "file")
        self.age(3610)
        expected = "  0  its time is over (gc.policy.task_ttl); a hard link, which frees nothing\n"
        self.assertIn(expected, self.run_it("gc", "--dry-run"))
        self.assertIn("1 task deleted, 0 bytes freed", self.run_it("gc"))
        self.assertTrue((self.directory / "file").exists())

    def test_pinned(self) -> None:
        """What was imported stays, and where no more can be deleted than is needed, a line says so."""
        write_config(self.directory, more="gc: {policy: {task_ttl: 1ms, disk_threshold: 100KB}}\n")
        self.run_it("import", "file")
        self.assertRegex(
            self.run_it("gc"), r"\n\d+ bytes more are used than the limit; no further task can be deleted\n$"
        )
