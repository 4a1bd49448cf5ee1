"""The command as a process: what it loads, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.daemon.rlimits import COMMAND_DESCRIPTORS, DOWNLOAD_DESCRIPTORS, STORING_DESCRIPTORS
from test.processes import PROGRAMS, Daemon, dfvortex, heed_signals, import_file, wait_until_open, write_config


class CommandTests(SynchronousTestCase):
    """``dfvortex`` in a directory with a configuration and a file."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)
        self.file = self.directory / "file"
        self.file.write_bytes(b"content")

    def shell(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script in which ``$dfvortex`` is the command, with output that waits in a buffer."""
        return subprocess.run(
            ["bash", "-c", f"set -o pipefail; {script}"],
            cwd=self.directory,
            env={**os.environ, "PYTHONUNBUFFERED": "", "dfvortex": str(PROGRAMS / "dfvortex"), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def loaded(self, *arguments: str) -> set[str]:
        """The names of the modules that are loaded when the command has run."""
        program = (
            "import sys\n"
            "from dragonfly_vortex.cli import main\n"
            "try: main(sys.argv[1:])\n"
            "except SystemExit: pass\n"
            "print('loaded:', *sys.modules, file=sys.stderr)\n"
        )
        # A measurement of coverage would load modules of its own.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
        ran = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return set(ran.stderr.splitlines()[-1].split()[1:])

    def test_help_is_light(self) -> None:
        """``--help`` loads no reactor, no gRPC, no YAML, no database; nor does a sub-command's."""
        heavy = {"twisted", "twisted.internet.reactor", "grpc", "yaml", "sqlite3", "tqdm", "importlib.metadata"}
        for arguments in (("--help",), ("import", "--help"), ("download", "--help")):
            loaded = self.loaded(*arguments)
            self.assertIn("dragonfly_vortex.cli.run", loaded)
            self.assertEqual(loaded & heavy, set(), arguments)

    def test_version_is_light(self) -> None:
        """``--version`` loads no reactor, and neither does the package itself."""
        self.assertNotIn("twisted", self.loaded("--version"))

    def test_download_by_tcp_is_light(self) -> None:
        """
        A download into a file from a parent by its TCP address loads no gRPC, TLS, YAML, database or server, and no
        progress bar without a terminal.
        """
        loaded = self.loaded("download", "0" * 64, "--parent", "127.0.0.1:1", "--output", "output", "--retry", "0")
        self.assertIn("twisted.internet.reactor", loaded)
        heavy = {
            "grpc",
            "google",
            "yaml",
            "sqlite3",
            "zeroconf",
            "OpenSSL",
            "OpenSSL.SSL",
            "cryptography",
            "service_identity",
            "tqdm",
            "multiprocessing",
            "importlib.metadata",
            "encodings.idna",
            "dragonfly_vortex.daemon.service",
            "dragonfly_vortex.metrics",
            "dragonfly_vortex.vortex.server_protocol",
        }
        self.assertEqual(loaded & heavy, set())

    def test_what_needs_tls(self) -> None:
        """Where a parent may speak TLS, now or later, the reactor has it."""
        self.directory.joinpath("parents").write_text("127.0.0.1:1\n")
        for parents in (("--parent", "tls://127.0.0.1:1"), ("--parents", "parents")):
            loaded = self.loaded("download", "0" * 64, *parents, "--output", "output", "--retry", "0")
            self.assertLessEqual({"OpenSSL.SSL", "twisted.internet._newtls"}, loaded, parents)

    def test_storage_needs_no_reactor(self) -> None:
        """What works on the storage loads no reactor and no gRPC, and no progress bar without a terminal."""
        loaded = self.loaded("list")
        self.assertIn("sqlite3", loaded)
        heavy = {"twisted", "grpc", "tqdm", "multiprocessing", "importlib.metadata"}
        self.assertEqual(loaded & heavy, set())

    def test_version(self) -> None:
        """``--version`` tells the package's version."""
        ran = dfvortex("--version", directory=self.directory)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, f"dfvortex {version('dragonfly-vortex')}\n", ""))

    def test_configuration_errors(self) -> None:
        """A configuration that is missing or wrong is one line that names it, and status 2."""
        self.directory.joinpath("bad.yaml").write_text("storage:\n  dir:\n", encoding="utf-8")
        for name, pattern in (("none.yaml", "cannot be read: No such file"), ("bad.yaml", r"2: storage\.dir: ")):
            ran = dfvortex("list", "--config", name, directory=self.directory)
            self.assertEqual((ran.returncode, ran.stdout), (2, ""))
            self.assertRegex(ran.stderr, rf"\Adfvortex: {name}:.*{pattern}.*\n\Z")

    def test_one_line(self) -> None:
        """An error with an end of line in it is written in one line."""
        ran = dfvortex("import", "no\nfile", directory=self.directory)
        self.assertEqual((ran.returncode, ran.stdout), (1, ""))
        self.assertEqual(ran.stderr, "dfvortex: cannot import no\\nfile: No such file or directory\n")

    def test_reader_goes_away(self) -> None:
        """``dfvortex list | head -1`` is quiet, however much there would have been to say."""
        import_file(self.file, directory=self.directory)
        ran = self.shell(
            "$dfvortex list | head -1; echo ${PIPESTATUS[0]}; $dfvortex list | true; echo ${PIPESTATUS[0]}"
        )
        self.assertEqual(ran.stderr, "")
        self.assertRegex(ran.stdout, r"\ATASK ID .*\n0\n0\n\Z")

    def test_output_cannot_be_written(self) -> None:
        """Output that cannot be written is an error of one line."""
        import_file(self.file, directory=self.directory)
        for buffering in ("", "1"):
            for command in ("list", "--version", "--help", "download --help"):
                ran = self.shell(f"PYTHONUNBUFFERED={buffering} $dfvortex {command} > /dev/full")
                self.assertEqual(ran.returncode, 1, command)
                self.assertRegex(ran.stderr, r"\Adfvortex(?: download)?: standard output: No space left on device\n\Z")

    def test_limited_file_size(self) -> None:
        """A limit of the size of files (``ulimit -f``) is an error of one line, and leaves no part of a file."""
        # A measurement of coverage could not write its file under the limit.
        task_id = import_file(self.file, directory=self.directory)
        self.directory.joinpath("large").write_bytes(bytes(1024 * 1024))
        before = {path for path in self.directory.rglob("*") if "content" in path.parts and path.is_file()}
        ran = self.shell("unset ${!COVERAGE_*}; ulimit -f 100; $dfvortex import large")
        self.assertEqual((ran.returncode, ran.stderr), (1, "dfvortex: cannot import large: File too large\n"))
        after = {path for path in self.directory.rglob("*") if "content" in path.parts and path.is_file()}
        self.assertEqual(after, before)
        self.assertIn(task_id, self.shell("unset ${!COVERAGE_*}; ulimit -f 100; $dfvortex verify").stdout)

    def test_output_is_cut_off(self) -> None:
        """Output of which only the first part can be written is an error of one line."""
        for buffering in ("", "1"):
            ran = self.shell(
                f"unset ${{!COVERAGE_*}}; ulimit -f 1; PYTHONUNBUFFERED={buffering} $dfvortex download --help > output"
            )
            expected = (1, "dfvortex download: standard output: File too large\n")
            self.assertEqual((ran.returncode, ran.stderr), expected, f"PYTHONUNBUFFERED={buffering}")

    def test_closed_streams(self) -> None:
        """Without standard output, or without standard error, it does its work, and says what it can."""
        ran = self.shell("$dfvortex import file >&-")
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, "", ""))
        ran = self.shell("$dfvortex import file 2>&-")
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertEqual(len(ran.stdout.splitlines()), 2)

    def test_names_that_are_no_text(self) -> None:
        """A file whose name is no UTF-8 is imported, and its name shown as well as can be."""
        name = os.fsencode(self.directory) + b"/\xff"
        Path(os.fsdecode(name)).write_bytes(b"")
        ran = self.shell(r"$dfvortex import $'\xff'", LC_ALL="C.UTF-8")
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertEqual(ran.stdout.splitlines()[0], "\\udcff: 0 bytes in 1 piece of at most 4194304 bytes")

    def test_signals(self) -> None:
        """Control-C, SIGTERM and SIGHUP end an import with their statuses, quietly, and leave no temporary."""
        heed_signals(self)
        with self.file.open("wb") as file:
            file.truncate(40 << 30)  # a hole, that takes half a minute and more to be read
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            with subprocess.Popen(
                [PROGRAMS / "dfvortex", "import", "--link", "file"],
                cwd=self.directory,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ) as process:
                wait_until_open(process.pid, self.file)
                process.send_signal(number)
                self.assertEqual(process.communicate(timeout=120), (b"", b""))
                self.assertEqual(process.returncode, status)
        self.assertEqual(list((self.directory / "data").rglob("*.dfvortex-part")), [])

    def test_signals_leave_no_temporary(self) -> None:
        """An import ends by a signal while it copies: nothing is left of the copy."""
        heed_signals(self)
        with self.file.open("wb") as file:
            file.truncate(2 << 30)
        for number, status in ((signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            with subprocess.Popen([PROGRAMS / "dfvortex", "import", "file"], cwd=self.directory) as process:
                while not any(path.stat().st_size for path in self.stored()):
                    self.assertIsNone(process.poll())
                process.send_signal(number)
                self.assertEqual(process.wait(120), status)
            self.assertEqual(self.stored(), [])

    def stored(self) -> list[Path]:
        """All files of content, finished or not."""
        return [path for path in (self.directory / "data" / "content").rglob("*") if path.is_file()]

    def test_nohup(self) -> None:
        """Under ``nohup`` an import outlives its terminal."""
        with self.file.open("wb") as file:
            file.truncate(1 << 27)
        command = ("nohup", PROGRAMS / "dfvortex", "import", "file")
        with subprocess.Popen(
            command, cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            wait_until_open(process.pid, self.directory / "data" / "content", below=True)
            process.send_signal(signal.SIGHUP)
            said, _ = process.communicate(timeout=120)
        self.assertEqual((process.returncode, len(said.splitlines())), (0, 2))


class DescriptorTests(SynchronousTestCase):
    """Commands that may open few files."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)
        self.directory.joinpath("file").write_bytes(os.urandom(300_000))

    def limited(self, files: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command with so many descriptors at most."""
        return subprocess.run(
            ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", PROGRAMS / "dfvortex", *arguments],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def check(self, needed: int, *arguments: str | Path) -> None:
        """Run a command with one descriptor less than it needs, and with as many as it needs."""
        ran = self.limited(needed - 1, *arguments)
        message = f"dfvortex: expected a limit of open files (ulimit -n) of {needed} or more, got {needed - 1}\n"
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (1, "", message))
        ran = self.limited(needed, *arguments)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))

    def test_storage(self) -> None:
        """Commands on the storage work with as few as they ask for, and open nothing where there are fewer."""
        self.check(3 + COMMAND_DESCRIPTORS, "import", "file")
        task_id = self.limited(100, "import", "file").stdout.split()[-1]
        for arguments in (("list",), ("stat", task_id), ("export", "--output", "exported", task_id)):
            self.check(3 + COMMAND_DESCRIPTORS, *arguments)

    def test_download(self) -> None:
        """So does a download, over each transport and into the storage."""
        other = self.directory / "other"
        write_config(other)
        task_id = import_file(self.directory / "file", directory=other)
        with Daemon(other) as daemon:
            for parent in (daemon.parent, daemon.grpc_parent):
                arguments = ("--parent", parent, "--output", "o", "--overwrite")
                self.check(3 + DOWNLOAD_DESCRIPTORS, "download", task_id, *arguments)
            needed = 3 + DOWNLOAD_DESCRIPTORS + STORING_DESCRIPTORS
            self.check(needed, "download", task_id, "--parent", daemon.grpc_parent, "--store", "--output", "p")
