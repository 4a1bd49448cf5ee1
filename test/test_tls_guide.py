"""``docs/tls.md``: its commands make certificates that its configuration serves and downloads with."""

from __future__ import annotations

import contextlib
import re
import shutil
import ssl
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dragonfly_vortex.config import client_tls, load_config, server_tls
from dragonfly_vortex.transport.tls import client_tls_from, server_tls_from
from test.processes import Daemon, dfvortex, import_file, write_config

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT.joinpath("docs", "tls.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The guide's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


class GuideTests(SynchronousTestCase):
    """The whole way, in processes."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory, more=blocks("yaml")[0])
        if shutil.which("openssl") is None:
            raise SkipTest("there is no openssl to run the guide's commands with")
        for commands in blocks("sh")[:2]:
            subprocess.run(["sh", "-e", "-c", commands], cwd=self.directory, check=True, capture_output=True)

    def download(self, daemon: Daemon, task_id: str, *arguments: str, scheme: str = "tls") -> tuple[int, str]:
        """The exit status of a download, and what it wrote on standard error."""
        parent = f"{scheme}://127.0.0.1:{daemon.port}"
        ran = dfvortex(
            *("download", task_id, "--parent", parent, "--output", "copy", "--overwrite", "--retry", "0", *arguments),
            directory=self.directory,
        )
        return ran.returncode, ran.stderr

    def test_commands(self) -> None:
        """A peer with the guide's files serves only children that have them; each failure is one line."""
        content = b"encrypted" * 100_000
        self.directory.joinpath("file").write_bytes(content)
        task_id = import_file(self.directory / "file", directory=self.directory)
        (command,) = (block for block in blocks("sh") if block.startswith("dfvortex"))
        with Daemon(self.directory) as daemon:
            words = command.replace("TASK_ID", task_id).replace("4005", str(daemon.port)).split()
            ran = dfvortex(*words[1:], directory=self.directory)
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            self.assertTrue(self.directory.joinpath("copy").read_bytes() == content)
            daemon.wait_for("it speaks TLS, clients show a certificate; content is copied")
            self.directory.joinpath("stranger.yaml").write_text("tls: {ca_cert: ca.crt}")
            status, said = self.download(daemon, task_id, "--config", "stranger.yaml")
            self.assertEqual(status, 5)
            self.assertRegex(said, r"\Adfvortex: .*TLS: the other side asks for a certificate, and was shown none\n\Z")
            status, said = self.download(daemon, task_id)
            self.assertEqual(status, 5)
            self.assertRegex(said, r"\Adfvortex: .*TLS: the certificate was not signed by an authority .*\n\Z")
            status, said = self.download(daemon, task_id, scheme="tcp")
            self.assertEqual(status, 5)
            self.assertRegex(said, r"\Adfvortex: .*expected TLS \(tls://\) on this port, got a request without it\n\Z")
            self.assertEqual(daemon.stop(), 0)
            self.assertNotIn("Traceback", daemon.log)

    def test_unusable_file(self) -> None:
        """A file that cannot be used ends daemon and command with one line that names it."""
        self.directory.joinpath("peer.key").write_text("no key\n")
        daemon = Daemon(self.directory)
        self.assertEqual(daemon.wait(), 1)
        self.assertRegex(
            daemon.log, r"dfvortex: /.*/peer\.key: expected a private key in PEM, without a password: .*\n"
        )
        self.assertNotIn("Traceback", daemon.log)
        ran = dfvortex(
            *("download", "0" * 64, "--parent", "tls://127.0.0.1:1", "--output", "copy", "--config", "tap.yaml"),
            *("--retry", "0"),
            directory=self.directory,
        )
        self.assertEqual(ran.returncode, 2)
        self.assertRegex(ran.stderr, r"\Adfvortex: /.*/peer\.key: expected a private key in PEM, .*\n\Z")

    def test_strict(self) -> None:
        """Both sides take the guide's certificates where they verify by the letter of RFC 5280, as Python 3.13 does."""
        contexts = [ssl.SSLContext(protocol) for protocol in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)]
        for context in contexts:
            context.load_cert_chain(self.directory / "peer.crt", self.directory / "peer.key")
            context.load_verify_locations(self.directory / "ca.crt")
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= ssl.VERIFY_X509_STRICT
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = contexts[0].wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
        server = contexts[1].wrap_bio(to_server, to_client, server_side=True)
        for _ in range(3):  # TLS 1.3 needs no more
            for side in (client, server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
        self.assertEqual((client.version(), server.version()), ("TLSv1.3", "TLSv1.3"))
        self.assertTrue(server.getpeercert())

    def test_files(self) -> None:
        """What the guide says of its files is so: they hold for both sides, and make TLS mutual."""
        config = load_config(self.directory / "tap.yaml").config
        server = server_tls(config)
        self.assertEqual(server, client_tls(config))
        if server is None:
            self.fail("expected TLS")
        self.assertTrue(server_tls_from(server).mutual)
        client_tls_from(client_tls(config))


class TableTests(SynchronousTestCase):
    """What is said on either side."""

    def test_words(self) -> None:
        """Each line of the table is one that the code says."""
        code = "".join(path.read_text(encoding="utf-8") for path in ROOT.joinpath("dragonfly_vortex").rglob("*.py"))
        said = re.findall("`([^`]+)`", GUIDE.partition("## When it fails")[2])
        self.assertEqual(len(said), 8)
        for words in said:
            self.assertIn(words.replace("for 127.0.0.1", "for {_shown(expected)}"), code)
