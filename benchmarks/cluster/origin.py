"""
The HTTP server that tasks come from: files of a folder, whole or in ranges, and a line in a file for each request. A
URL with ``?rate=N`` is sent at N bytes a second.

``python -m benchmarks.cluster.origin PORT FOLDER LOG``
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_LOCK = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, log: Path, *arguments: object) -> None:
        self._folder = folder
        self._log = log
        super().__init__(*arguments)  # type: ignore[arg-type]  # as socketserver gives them

    def do_GET(self) -> None:
        """Send a file, or a range of it."""
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        """Say what a file is."""
        self._answer(has_body=False)

    def _answer(self, *, has_body: bool) -> None:
        path = self._folder / Path(self.path.partition("?")[0]).name
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "") if size else None
        first = int(wanted[1]) if wanted else 0
        last = min(int(wanted[2]) if wanted and wanted[2] else size - 1, size - 1)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}-{size:x}"')
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        rate = re.search(r"rate=(\d+)", self.path)
        sent = self._send(path, first, last + 1, int(rate[1]) if rate else 0) if has_body else 0
        with _LOCK, self._log.open("a", encoding="utf-8") as log:
            log.write(f"{self.command} /{path.name} {sent}\n")

    def _send(self, path: Path, first: int, end: int, rate: int) -> int:
        """Send bytes of a file, by the kernel, at most so many a second unless that is 0; how many have gone."""
        self.wfile.flush()
        at = first
        step = max(1, rate // 10) if rate else end - first
        try:
            with path.open("rb") as file:
                while at < end and (
                    sent := os.sendfile(self.connection.fileno(), file.fileno(), at, min(step, end - at))
                ):
                    at += sent
                    time.sleep(sent / rate if rate else 0)
        except OSError:  # the other side has gone
            self.close_connection = True
        return at - first

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing goes to standard error."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Serve until the process is ended."""
    port, folder, log = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    _Server(("127.0.0.1", port), partial(_Handler, folder, log)).serve_forever()


if __name__ == "__main__":
    main()
