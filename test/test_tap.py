"""``twistd dfvortex``: its options in this process, and the daemon that it makes as a process."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
from dragonfly_api import dfdaemon_pb2
from twisted.application.service import IServiceCollection, IServiceMaker, MultiService
from twisted.internet import reactor as global_reactor
from twisted.internet.interfaces import IReactorTime
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.processes import free_port
from dragonfly_vortex import __version__, tap
from dragonfly_vortex.config import load_config
from dragonfly_vortex.daemon.rlimits import peer_descriptors
from dragonfly_vortex.daemon.service import VortexService
from dragonfly_vortex.daemon.signals import ENDING_SIGNALS
from dragonfly_vortex.limited_log import LINES
from dragonfly_vortex.wire import ErrorCode, ErrorReply, PieceContent
from test.metrics.page import answered, fetched
from test.processes import PROGRAMS, TWISTD, Child, Daemon, dfvortex, heed_signals, import_file, write_config

ROOT = Path(__file__).resolve().parent.parent


class OptionsTests(SynchronousTestCase):
    """The options of ``twistd dfvortex``, and the service that is made of them."""

    def parse(self, *arguments: str) -> tap.Options:
        """The options for a command line."""
        options = tap.Options()
        options.parseOptions(arguments)
        return options

    def test_plugin(self) -> None:
        """The plugin ``dfvortex`` leads to this module."""
        (plugin,) = (plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "dfvortex")
        self.assertIs(plugin.options, tap.Options)

    def test_config(self) -> None:
        """The configuration is read from the file that ``--config`` or ``-c`` names."""
        directory = Path(self.mktemp())
        write_config(directory, port=4321)
        for name in ("--config", "-c"):
            options = self.parse(name, str(directory / "tap.yaml"))
            self.assertEqual(options.loaded.config.storage.server.tcp.port, 4321)

    def test_dynconfig(self) -> None:
        """``--dynconfig`` names the file with the schedulers, which is read at once."""
        directory = Path(self.mktemp())
        write_config(directory, port=4321)
        config, file = str(directory / "tap.yaml"), directory / "dynconfig.yaml"
        file.write_text("scheduler: {addrs: ['192.0.2.1:8002']}\n")
        options = self.parse("--config", config, "--dynconfig", str(file))
        self.assertEqual(options.loaded.config.dynconfig.file, file.absolute())
        file.write_text("scheduler: {addrs: [nonsense]}\n")
        error = self.assertRaises(SystemExit, self.parse, "--config", config, "--dynconfig", str(file))
        self.assertIn("dynconfig.yaml:1: scheduler.addrs[0]: expected an IP address and a port", str(error.code))
        self.assertIsNone(self.parse("--config", config).loaded.config.dynconfig.file)

    def test_default(self) -> None:
        """Without ``--config`` it is ``tap.yaml``; the message about its absence says that it is the default."""
        here = Path.cwd()
        self.addCleanup(os.chdir, here)
        directory = Path(self.mktemp())
        directory.mkdir()
        os.chdir(directory)
        error = self.assertRaises(SystemExit, self.parse)
        missing = "tap.yaml: cannot be read: No such file or directory"
        hint = "(the default file; an empty one has the defaults, --config names another)"
        self.assertEqual(error.code, f"dfvortex: {missing} {hint}")

    def test_version(self) -> None:
        """``--version`` is ours, and not Twisted's."""
        ran = subprocess.run(
            [PROGRAMS / "twistd", "dfvortex", "--version"], capture_output=True, text=True, timeout=120
        )
        self.assertEqual((ran.returncode, ran.stdout), (0, f"dfvortex {__version__}\n"))

    def test_broken(self) -> None:
        """A wrong key ends the process with one line that names file, line and key."""
        path = Path(self.mktemp())
        path.write_text("storage:\n  server:\n    tcp: {prot: 1}\n", encoding="utf-8")
        error = self.assertRaises(SystemExit, self.parse, "--config", str(path))
        self.assertRegex(str(error.code), rf"\Adfvortex: {re.escape(str(path))}:3: storage\.server\.tcp\.prot: .*\Z")

    def test_service(self) -> None:
        """The service has a peer with that configuration in it, and has opened nothing."""
        directory = Path(self.mktemp())
        write_config(directory)
        options = self.parse("--config", str(directory / "tap.yaml"))
        self.patch(global_reactor, "seconds", IReactorTime(global_reactor).seconds)
        made = tap.makeService(options)
        self.assertIsInstance(made, MultiService)
        (peer,) = (each for each in IServiceCollection(made) if isinstance(each, VortexService))
        self.assertEqual(peer.config, options.loaded.config)
        self.assertTrue(peer.can_do_without_health)
        self.assertFalse((directory / "data").exists())

    def test_the_repositorys_configuration(self) -> None:
        """The ``tap.yaml`` in the repository can be used, and nothing in it is unknown."""
        self.assertEqual(self.parse("--config", str(ROOT / "tap.yaml")).loaded.warnings, ())


class DaemonTests(SynchronousTestCase):
    """The daemon as a process."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)
        self.content = os.urandom(1_500_000)
        self.directory.joinpath("file").write_bytes(self.content)

    def import_file(self, piece_length: int | None = None) -> str:
        """Import the test's file, and give its task ID."""
        return import_file(self.directory / "file", directory=self.directory, piece_length=piece_length)

    def fetch(self, daemon: Daemon, task_id: str) -> bytes:
        """Download a task with the command."""
        output = self.directory / "output"
        ran = dfvortex(
            "download", task_id, "--parent", daemon.parent, "--output", output, "--overwrite", directory=self.directory
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran)
        return output.read_bytes()

    def ended_with(self) -> tuple[int, str]:
        """Exit status and log of a daemon that should not come to serving."""
        daemon = Daemon(self.directory)
        return daemon.wait(), daemon.log

    # -- serving

    def test_serves_what_is_imported_while_it_runs(self) -> None:
        """A file that is imported while the daemon runs can be downloaded from it at once."""
        with Daemon(self.directory) as daemon:
            self.assertTrue(self.fetch(daemon, self.import_file()) == self.content)
            self.assertEqual(daemon.stop(), 0)

    def test_keeps_its_content_when_killed(self) -> None:
        """After ``kill -9`` and a restart the daemon serves what it had served; nothing is in its way."""
        with Daemon(self.directory) as daemon:
            task_id = self.import_file()
            self.assertTrue(self.fetch(daemon, task_id) == self.content)
            daemon.kill()
        with Daemon(self.directory) as daemon:
            self.assertTrue(self.fetch(daemon, task_id) == self.content)

    def test_damage(self) -> None:
        """
        A file that was cut short is noticed when it is sent, never offered again, over a restart too, and shown by
        ``dfvortex stat``; importing the file again heals it.
        """
        with Daemon(self.directory) as daemon:
            task_id = self.import_file(1_000_000)
            stored = self.directory / "data" / "content" / "tasks" / task_id[:3] / task_id
            os.truncate(stored, 1_200_000)
            with Child(daemon.address) as child:
                child.ask(task_id, 1)
                self.assertIsInstance(child.next_event(), PieceContent)
                self.assertRaises((EOFError, ConnectionResetError), child.content)
            daemon.wait_for(f"piece {task_id}-1: ")
            self.assert_damaged(daemon, task_id)
            daemon.kill()
        with Daemon(self.directory) as daemon:
            self.assert_damaged(daemon, task_id)
            self.assertEqual(self.import_file(1_000_000), task_id)
            self.assertNotIn("damaged:", dfvortex("stat", task_id, directory=self.directory).stdout)
            self.assertTrue(self.fetch(daemon, task_id) == self.content)

    def assert_damaged(self, daemon: Daemon, task_id: str) -> None:
        """Assert that the second piece counts as damaged, and the first does not."""
        with Child(daemon.address) as child:
            child.ask(task_id, 1)
            reply = child.next_event()
            self.assertTrue(isinstance(reply, ErrorReply) and reply.code == ErrorCode.NOT_FOUND, reply)
            child.ask(task_id, 0)
            self.assertIsInstance(child.next_event(), PieceContent)
            self.assertTrue(child.content() == self.content[:1_000_000])
        shown = dfvortex("stat", task_id, directory=self.directory).stdout
        self.assertRegex(shown, r"(?m)^pieces: +2 of 2, 1 damaged$")
        self.assertRegex(shown, r"(?m)^damaged: +piece 1: expected 300000 more bytes ")
        output = self.directory / "damaged"
        ran = dfvortex("download", task_id, "--parent", daemon.parent, "--output", output, directory=self.directory)
        self.assertNotEqual(ran.returncode, 0)
        self.assertFalse(output.exists())

    def test_warnings(self) -> None:
        """What the configuration warns of is in the daemon's log, and commands do not print it."""
        write_config(self.directory, more="tracing: {protocol: grpc}\n")
        ran = dfvortex("import", "file", directory=self.directory)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertNotIn("tracing", ran.stdout)
        with Daemon(self.directory) as daemon:
            self.assertEqual(len(re.findall(r"#warn\].*not used here: tracing", daemon.log)), 1, daemon.log)

    # -- starting

    def test_broken_configuration(self) -> None:
        """A wrong value is one line that names file, line and key, and a status that is not 0."""
        self.directory.joinpath("tap.yaml").write_text("upload:\n  bandwidth_limit: fast\n", encoding="utf-8")
        status, log = self.ended_with()
        self.assertEqual(status, 1)
        self.assertRegex(log, r"\Adfvortex: tap\.yaml:2: upload\.bandwidth_limit: expected .*; got .*\n\Z")

    def test_unusable_places(self) -> None:
        """A PID file that cannot be written, and a working directory that is absent, are one line and status 1."""
        for option, reason in (
            ("--pidfile=missing/peer.pid", "the PID file .*missing/peer.pid cannot be written .*"),
            ("--rundir=missing", r"the working directory .*missing \(--rundir\) cannot be used"),
        ):
            daemon = Daemon(self.directory, command=(PROGRAMS / "twistd", "-n", "--pidfile=", option, "dfvortex"))
            self.assertEqual(daemon.wait(), 1)
            self.assertRegex(daemon.log, rf"\Adfvortex: {reason}\n\Z")

    def test_twist(self) -> None:
        """``twist``, which has no such places, runs the peer, too."""
        write_config(self.directory)
        command = (PROGRAMS / "twist", "--log-format=text", "dfvortex")
        with Daemon(self.directory, command=command) as daemon:
            self.assertTrue(self.fetch(daemon, self.import_file()) == self.content)
            self.assertEqual(daemon.stop(), 0)

    def test_port_in_use(self) -> None:
        """A port that cannot be had is one line in the log, and a status that is not 0; no PID file is left."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            write_config(self.directory, port=other.getsockname()[1])
            command = (PROGRAMS / "twistd", "-n", "--pidfile=peer.pid", "dfvortex")
            daemon = Daemon(self.directory, command=command)
            self.assertEqual(daemon.wait(), 1)
        self.assert_one_line(daemon.log, "address already in use")
        self.assertFalse((self.directory / "peer.pid").exists())

    def test_grpc_port_in_use(self) -> None:
        """So it is with the port of the other door."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            write_config(self.directory, grpc_port=other.getsockname()[1])
            status, log = self.ended_with()
        self.assertEqual(status, 1)
        self.assert_one_line(log, "address already in use")

    def test_metrics_port_in_use(self) -> None:
        """So it is with the port for metrics."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            write_config(self.directory, metrics_port=other.getsockname()[1])
            status, log = self.ended_with()
        self.assertEqual(status, 1)
        self.assert_one_line(log, "address already in use")

    def test_one_port_twice(self) -> None:
        """One port for two doors is one line that names both keys, and nothing is opened."""
        write_config(self.directory, port=4005, grpc_port=4005)
        status, log = self.ended_with()
        self.assertEqual(status, 1)
        self.assert_one_line(
            log, "storage.server.tcp.port and upload.server.port: expected two ports; got 4005 for both"
        )

    def limited(self, options: str, files: int = 264) -> Daemon:
        """A daemon that may open few files; those are the options of ``ulimit``."""
        return Daemon(self.directory, command=("sh", "-c", f'ulimit {options} {files}; exec "$@"', "sh", *TWISTD))

    def test_open_files(self) -> None:
        """The soft limit of open files is raised to what all connections can need, where that is allowed."""
        write_config(self.directory, server="max_connections: 300")
        with self.limited("-Sn") as daemon:
            self.assertRegex(Path(f"/proc/{daemon.pid}/limits").read_text(), r"(?m)^Max open files +764 ")
        self.assertNotIn("#warn]", daemon.log)
        write_config(self.directory, server="max_connections: 10")
        with self.limited("-Sn") as daemon:
            self.assertRegex(Path(f"/proc/{daemon.pid}/limits").read_text(), r"(?m)^Max open files +264 ")

    def test_too_few_open_files(self) -> None:
        """Where the hard limit is in the way a warning says so, and there are fewer connections, all of them served."""
        write_config(self.directory, server="max_connections: 300")
        task_id = self.import_file()
        with self.limited("-n") as daemon, contextlib.ExitStack() as stack:
            self.assertEqual(len(re.findall(r"#warn\] max_connections: asked for 300,.*for 50\n", daemon.log)), 1)
            children = [stack.enter_context(Child(daemon.address, receive_buffer=4096)) for _ in range(120)]
            for child in children:
                child.ask(task_id)
            for child in children[:50]:
                self.assertIsInstance(child.next_event(), PieceContent)
            for child in children:
                child.socket.close()
            self.assertEqual(daemon.stop(), 0)
        self.assertNotRegex(daemon.log, r"EMFILE|Too many open files")

    def test_fewest_open_files(self) -> None:
        """With as few descriptors as are asked for every door works, one child at a time, and the peer ends well."""
        write_config(self.directory, more="health: {server: {ip: 127.0.0.1, port: 0}}\n")
        task_id = self.import_file()
        needed = 3 + peer_descriptors(load_config(self.directory / "tap.yaml").config)
        with self.limited("-n", needed) as daemon:
            self.assertTrue(self.fetch(daemon, task_id) == self.content)
            output = self.directory / "over-grpc"
            ran = dfvortex(
                *("download", task_id, "--parent", daemon.grpc_parent, "--protocol", "grpc", "--concurrency", "1"),
                *("--output", output),
                directory=self.directory,
            )
            self.assertEqual(ran.returncode, 0, ran)
            self.assertTrue(output.read_bytes() == self.content)
            self.assertIn("process_max_fds", fetched(int(daemon.wait_for(r"serving metrics on .*port=(\d+)\)")[1])))
            port = int(daemon.wait_for(r"serving health on .*port=(\d+)\)")[1])
            self.assertEqual(answered(port, "/readiness"), (200, "ok\n"))
            self.assertEqual(daemon.stop(), 0)
        self.assertNotRegex(daemon.log, r"EMFILE|Too many open files|Traceback")

    def test_fewest_open_files_with_a_local_door(self) -> None:
        """With as few descriptors as are asked for the local door downloads a task from another peer."""
        with tempfile.TemporaryDirectory(prefix="dfl") as name, Daemon(self.directory) as parent:  # a short path
            child, task_id = Path(name), self.import_file()
            server = "server: {socket_path: peer.sock}"
            write_config(child, more=f"download: {{parents: ['{parent.grpc_parent}'], {server}}}\n")
            needed = 3 + peer_descriptors(load_config(child / "tap.yaml").config)
            command = ("sh", "-c", f'ulimit -n {needed}; exec "$@"', "sh", *TWISTD)
            with Daemon(child, command=command) as daemon, grpc.insecure_channel(f"unix:{child}/peer.sock") as channel:
                daemon.wait_for(f"serving the local door at {re.escape(str(child))}/peer.sock")
                request = dfdaemon_pb2.DownloadTaskRequest()
                request.download.url = f"https://registry.example/v2/name/blobs/sha256:{task_id}"
                request.download.enable_task_id_based_blob_digest = True
                request.download.output_path = str(child / "output")
                call: Any = channel.unary_stream(
                    "/dfdaemon.v2.DfdaemonDownload/DownloadTask", dfdaemon_pb2.DownloadTaskRequest.SerializeToString
                )
                list(call(request, timeout=60))
                self.assertTrue(child.joinpath("output").read_bytes() == self.content)
                self.assertEqual(daemon.stop(), 0)
            self.assertNotRegex(daemon.log, r"EMFILE|Too many open files|Traceback")

    def test_no_open_files(self) -> None:
        """With fewer it is one line and status 1, before anything is opened."""
        needed = 3 + peer_descriptors(load_config(self.directory / "tap.yaml").config)
        for files in (6, 24, needed - 1):
            daemon = self.limited("-n", files)
            self.assertEqual(daemon.wait(), 1)
            expected = f"dfvortex: expected a limit of open files (ulimit -n) of {needed} or more, got {files}\n"
            self.assertEqual(daemon.log, expected)
        self.assertFalse((self.directory / "data").exists())

    def test_unusable_storage(self) -> None:
        """A storage that cannot be opened is one line in the log, and a status that is not 0."""
        self.directory.joinpath("data").write_text("a file, not a directory")
        status, log = self.ended_with()
        self.assertEqual(status, 1)
        self.assert_one_line(log, "cannot open .*data/catalog.sqlite3: ")

    def assert_one_line(self, log: str, pattern: str) -> None:
        """Assert that one line of a log is ours, and says that; and that there is no traceback."""
        self.assertRegex(log, rf"(?mi)^\S+ \[stderr#error\] dfvortex: .*{pattern}")
        self.assertEqual(log.count("dfvortex: "), 1, log)
        self.assertNotIn("Traceback", log)

    def daemonize(self, redirected: str = "") -> subprocess.CompletedProcess[str]:
        """Run twistd without ``-n``: it ends when the daemon runs, or has failed to."""
        twistd = (PROGRAMS / "twistd", "--pidfile=peer.pid", "--logfile=peer.log", "dfvortex")
        return subprocess.run(
            ["sh", "-c", f'exec "$@" {redirected}', "sh", *twistd],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )

    def test_daemonized(self) -> None:
        """Without ``-n``, too, the peer serves: its threads and its database are opened after the fork."""
        port = free_port()
        write_config(self.directory, port=port)
        ran = self.daemonize()
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        pid = int((self.directory / "peer.pid").read_text())
        self.addCleanup(_kill, pid)
        task_id = self.import_file()
        output = self.directory / "output"
        downloaded = dfvortex(
            "download", task_id, "--parent", f"127.0.0.1:{port}", "--output", output, directory=self.directory
        )
        self.assertEqual(downloaded.returncode, 0, downloaded)
        self.assertTrue(output.read_bytes() == self.content)
        with Child(("127.0.0.1", port)) as idle:
            idle.ask("0" * 64)  # a connection that is not accepted yet would be reset
            self.assertIsInstance(idle.next_event(), ErrorReply)
            os.kill(pid, signal.SIGTERM)
            self.assertIsNone(idle.next_event())
        self.assertTrue(_is_gone_soon(pid))
        self.assertIn("Server Shut Down.", (self.directory / "peer.log").read_text())

    def test_daemonized_without_standard_streams(self) -> None:
        """With the descriptors 0, 1 and 2 closed it starts and serves as with them."""
        for redirected in ("<&-", "<&- >&- 2>&-"):
            ran = self.daemonize(redirected)
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            pid = int((self.directory / "peer.pid").read_text())
            self.addCleanup(_kill, pid)
            port = int(re.findall(r"serving Vortex on .*port=(\d+)\)", (self.directory / "peer.log").read_text())[-1])
            with Child(("127.0.0.1", port)) as child:
                child.ask("0" * 64)
                self.assertIsInstance(child.next_event(), ErrorReply)
            os.kill(pid, signal.SIGTERM)
            self.assertTrue(_is_gone_soon(pid))

    def log_of_the_failed(self) -> str:
        """
        The log of a daemon that could not start. The starting command gets the reason before the daemon writes it into
        the log and removes its PID file.
        """
        log, pid_file = self.directory / "peer.log", self.directory / "peer.pid"
        deadline = time.monotonic() + 120
        while pid_file.exists() or "dfvortex: " not in log.read_text():
            if time.monotonic() > deadline:
                self.fail(f"expected a reason in the log, and no PID file; got {log.read_text()}")
            time.sleep(0.01)
        return log.read_text()

    def test_daemonized_with_port_in_use(self) -> None:
        """Without ``-n`` the starting command fails, and tells the reason, as the log does."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            write_config(self.directory, port=other.getsockname()[1])
            ran = self.daemonize()
        self.assertEqual(ran.returncode, 1)
        self.assertRegex(ran.stderr, r"dfvortex: Couldn't listen on 127.0.0.1:\d+: .*[Aa]ddress already in use")
        self.assert_one_line(self.log_of_the_failed(), "address already in use")

    def test_daemonized_with_unusable_storage(self) -> None:
        """A reason with long paths names the last parts of them there."""
        self.directory.joinpath("data").write_text("a file, not a directory")
        ran = self.daemonize()
        self.assertEqual(ran.returncode, 1)
        self.assertIn("dfvortex: cannot open .../catalog.sqlite3: File exists: .../data", ran.stderr)
        self.assert_one_line(self.log_of_the_failed(), "cannot open .*data/catalog.sqlite3: ")

    # -- ending

    def test_ends_at_once_when_idle(self) -> None:
        """SIGTERM ends idle connections with an end of file and the daemon with status 0, at once."""
        write_config(self.directory, more="shutdown_timeout: 1000s\n")  # longer than its end is waited for
        with Daemon(self.directory) as daemon, Child(daemon.address) as child:
            child.ask("0" * 64)
            self.assertIsInstance(child.next_event(), ErrorReply)
            self.assertEqual(daemon.stop(), 0)
            self.assertIsNone(child.next_event())

    def test_ends_as_soon_as_it_serves(self) -> None:
        """SIGTERM right after the log says that the peer serves, before a child has asked, makes it exit 0 too."""
        for _ in range(3):
            with Daemon(self.directory) as daemon:
                self.assertEqual(daemon.stop(), 0, daemon.log)

    def assert_soon_refused(self, address: tuple[str, int]) -> None:
        """
        No connection is accepted any more. Twisted logs that a moment before it closes the socket; a connection in
        between may be reset.
        """
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                with Child(address):
                    pass
            except ConnectionResetError:
                continue
            except ConnectionRefusedError:
                return
        self.fail(f"expected {address} to refuse connections, it still accepts them")

    def test_finishes_the_piece_under_way(self) -> None:
        """
        SIGTERM lets a piece that is being sent slowly come to its end, accepts no connection meanwhile, and exits 0.
        """
        write_config(self.directory, upload="bandwidth_limit: 500KB")
        task_id = self.import_file()
        with Daemon(self.directory) as daemon, Child(daemon.address) as child:
            child.ask(task_id)
            self.assertIsInstance(child.next_event(), PieceContent)
            daemon.terminate()
            daemon.wait_for(r"Port \d+ Closed")
            self.assert_soon_refused(daemon.address)
            daemon.terminate()  # once more: nothing changes
            self.assertTrue(child.content() == self.content)
            self.assertIsNone(child.next_event())
            self.assertEqual(daemon.wait(), 0)
        self.assertNotIn("Traceback", daemon.log)

    def test_strangers_do_not_fill_the_log(self) -> None:
        """Connections that send no Vortex make a few lines, and in the end one that says how many were left out."""
        with Daemon(self.directory) as daemon:
            for _ in range(LINES + 30):
                with Child(daemon.address) as child:
                    child.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    self.assertIsInstance(child.next_event(), ErrorReply)
            self.assertEqual(daemon.stop(), 0)
        self.assertEqual(daemon.log.count("#info] refused "), LINES)
        self.assertRegex(daemon.log, "#warn] 30 more lines of this kind were left out: refused {peer}: {reason}")

    def test_does_not_wait_for_a_reader_that_has_stopped(self) -> None:
        """
        SIGTERM waits for a child that reads nothing for as long as ``shutdown_timeout`` says, not more, and exits 0.
        """
        write_config(self.directory, more="shutdown_timeout: 1s\n")
        self.directory.joinpath("file").write_bytes(bytes(32_000_000))
        task_id = self.import_file(32_000_000)
        with Daemon(self.directory) as daemon, Child(daemon.address, receive_buffer=4096) as child:
            child.ask(task_id)
            self.assertIsInstance(child.next_event(), PieceContent)
            started = time.monotonic()
            self.assertEqual(daemon.stop(), 0)
            self.assertGreater(time.monotonic() - started, 0.9)
            self.assertRaises((EOFError, ConnectionResetError), child.content)

    def test_signals(self) -> None:
        """Each signal that would end a process at once lets the piece under way come to its end, and exits 0."""
        heed_signals(self)
        # The machine's disk may stand still for longer than a peer usually has for its end.
        write_config(self.directory, upload="bandwidth_limit: 2MB", more="shutdown_timeout: 2m\n")
        task_id = self.import_file()
        for number in ENDING_SIGNALS:
            with Daemon(self.directory) as daemon, Child(daemon.address) as child:
                child.ask(task_id)
                self.assertIsInstance(child.next_event(), PieceContent)
                os.kill(daemon.pid, number)
                daemon.wait_for(f"asked to end by {number.name}")
                self.assertTrue(child.content() == self.content)
                self.assertEqual(daemon.wait(), 0)

    def test_door_that_fails_later(self) -> None:
        """A gRPC door that cannot be opened after the start ends the peer with status 1, and no PID file is left."""
        too_early = "from dragonfly_vortex.daemon import grpc_door; grpc_door._try_to_listen = lambda ip, port: None; "
        program = f"{too_early}from twisted.scripts.twistd import run; run()"
        with socket.create_server(("127.0.0.1", 0)) as other:
            write_config(self.directory, grpc_port=other.getsockname()[1])
            command = (sys.executable, "-c", program, "-n", "--pidfile=peer.pid", "dfvortex")
            daemon = Daemon(self.directory, command=command)
            self.assertEqual(daemon.wait(), 1, daemon.log)
        self.assertRegex(daemon.log, r"the upload service cannot listen: .*\n(?s:.*)Server Shut Down\.")
        self.assertNotIn("Traceback", daemon.log)
        self.assertFalse((self.directory / "peer.pid").exists())

    def test_interrupt(self) -> None:
        """Control-C on a terminal ends it as any program: by the signal, after all is closed."""
        heed_signals(self)
        with Daemon(self.directory) as daemon, Child(daemon.address) as child:
            child.ask("0" * 64)
            self.assertIsInstance(child.next_event(), ErrorReply)
            os.kill(daemon.pid, signal.SIGINT)
            self.assertEqual(daemon.wait(), -signal.SIGINT)
        self.assertIn("Server Shut Down.", daemon.log)
        self.assertNotIn("Traceback", daemon.log)


def _kill(pid: int) -> None:
    """Kill a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _is_gone_soon(pid: int) -> bool:
    """Wait for a process that is no child of ours to end; False when it takes too long."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 120)[0])
    finally:
        os.close(descriptor)
