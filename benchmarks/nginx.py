"""nginx, for comparison: one process that sends files of a directory, and ranges of them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.installed import find
from benchmarks.servers import Server, free_port

__all__ = ["Nginx"]

_CONFIG = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    open_file_cache max=16;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


class Nginx(Server):
    """
    nginx, serving inside the block, tuned in its favour: no log, files kept open, and no ``tcp_nopush``, which would
    hold back the last of several small replies. It is one process, whose ID is :attr:`pid`.

    :param root: the directory of what it serves.
    :param directory: where its configuration and its log are written.
    """

    def __init__(self, root: Path, directory: Path) -> None:
        config = directory / "nginx.conf"
        super().__init__(
            [find("nginx") or "nginx", "-e", "stderr", "-c", config], directory, r"using the \"\w+\" event method"
        )
        self.port = free_port()
        self._root = root
        self._config = config

    @staticmethod
    def is_installed() -> bool:
        """Whether there is one on this machine."""
        return find("nginx") is not None

    def __enter__(self) -> Nginx:
        self._config.write_text(
            _CONFIG.format(directory=self._config.parent, port=self.port, root=self._root), encoding="utf-8"
        )
        return super().__enter__()
