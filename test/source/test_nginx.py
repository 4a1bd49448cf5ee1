"""Sources of a real web server: nginx, where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from benchmarks.processes import free_port
from dragonfly_vortex.errors import SourceChanged, SourceNotFound
from dragonfly_vortex.model import SourceStat
from test.source.origins import CONTENT, SourceCase
from test.test_end_to_end import MEASURED

_LARGE = 8 * 32 * 1024 * 1024

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

_CONFIGURATION = """
daemon off; pid {directory}/pid; error_log {directory}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f;
  uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s; gzip on; gzip_types *; gzip_min_length 1;
  server {{
    listen 127.0.0.1:{port}; root {directory}/www;
    location /noranges/ {{ alias {directory}/www/; max_ranges 0; }}
  }}
}}
"""


class NginxTests(SourceCase):
    """What nginx answers."""

    if NGINX is None:
        skip = "nginx is not installed"

    async def start(self) -> str:
        """Start nginx. Its URL."""
        self.directory = Path(self.mktemp()).absolute()
        (self.directory / "www").mkdir(parents=True)
        (self.directory / "www" / "f").write_bytes(CONTENT)
        (self.directory / "www" / "empty").touch()
        self.directory.chmod(0o755)
        port = free_port()
        configuration = self.directory / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        configuration.write_text(user + _CONFIGURATION.format(directory=self.directory, port=port))
        server = subprocess.Popen(
            [str(NGINX), "-e", str(self.directory / "error.log"), "-c", str(configuration)], stderr=subprocess.DEVNULL
        )
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        for _ in range(10_000):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}"
            await deferLater(self.clock, 0.01)
        self.fail((self.directory / "error.log").read_text())

    async def test_ranges(self) -> None:
        """Ranges come, also where nginx compresses what may be compressed; a changed file is refused."""
        url = await self.start()
        source = self.source(f"{url}/f")
        stat = await source.stat()
        self.assertEqual((stat.content_length, stat.has_ranges), (len(CONTENT), True))
        self.assertEqual(await self.fetched(source, 1000, 200_000), CONTENT[1000:201_000])
        (self.directory / "www" / "f").write_bytes(CONTENT[::-1])
        os.utime(self.directory / "www" / "f", (1e9, 1e9))
        self.assertIsInstance(await self.failure_of(self.fetched(source, 0, 10)), SourceChanged)

    async def test_others(self) -> None:
        """An empty file, a missing one, and one of which nginx gives no ranges."""
        url = await self.start()
        self.assertEqual((await self.source(f"{url}/empty").stat()).content_length, 0)
        self.assertIsInstance(await self.failure_of(self.source(f"{url}/missing").stat()), SourceNotFound)
        source = self.source(f"{url}/noranges/f")
        stat = await source.stat()
        self.assertEqual(stat, SourceStat(content_length=len(CONTENT), has_ranges=False, version=stat.version))
        self.assertEqual(await self.fetched(source, 0, None), CONTENT)

    async def test_memory(self) -> None:
        """Eight pieces of 32 MiB at once need no more memory than small ones: nothing of them is kept."""
        url = await self.start()
        with (self.directory / "www" / "large").open("wb") as file:
            file.truncate(_LARGE)
        status, output = self.directory / "status", self.directory / "out"
        arguments = ("--piece-length", "32MiB", "--no-sync", "--output", str(output))
        command = [sys.executable, "-c", MEASURED, str(status), "download", f"{url}/large", *arguments]
        done = await deferToThread(lambda: subprocess.run(command, capture_output=True, text=True, cwd=self.directory))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(output.stat().st_size, _LARGE)
        output.unlink()
        (kilobytes,) = re.findall(r"(?m)^VmHWM:\s+(\d+) kB$", status.read_text(encoding="ascii"))
        self.assertLess(int(kilobytes), 110_000)
