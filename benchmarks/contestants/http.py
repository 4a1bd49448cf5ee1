"""
A file over HTTP: nginx with curl, and with aria2, and the file's SHA-256 by ``hashlib`` afterwards.

Both are tuned in their favour. nginx: sendfile with whole headers before it (``tcp_nopush``), no log, descriptors kept
open, connections kept for as long as a child asks. aria2: eight connections, no allocation of the file before it comes,
and neither a display nor a look for a configuration.
"""

from __future__ import annotations

from benchmarks.contestant import Contestant, Parent

__all__ = ["CONTESTANTS", "NGINX"]

_CONFIG = """\
daemon off;
user $user $group;
worker_processes 1;
pid $turn/nginx.pid;
error_log stderr notice;
events { worker_connections 1024; multi_accept on; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    open_file_cache max=16;
    client_body_temp_path $turn/body;
    proxy_temp_path $turn/proxy;
    fastcgi_temp_path $turn/fastcgi;
    scgi_temp_path $turn/scgi;
    uwsgi_temp_path $turn/uwsgi;
    server {
        listen 127.0.0.1:$port;
        root $task;
    }
}
"""

NGINX = Parent(
    command="nginx -e stderr -c $turn/nginx.conf",
    says="start worker process ",
    files={"nginx.conf": _CONFIG},
)

_HASH = "python -m benchmarks.programs.sha256 $turn/output $task_id"

CONTESTANTS = (
    Contestant(
        name="curl",
        title="nginx, curl, hashlib",
        group="file",
        parent=NGINX,
        child=("curl --silent --show-error --fail --output $turn/output http://127.0.0.1:$port/file", _HASH),
    ),
    Contestant(
        name="aria2",
        title="nginx, aria2, hashlib",
        group="file",
        parent=NGINX,
        child=(
            "aria2c --no-conf --quiet --file-allocation=none -x8 -s8 -k4M --async-dns=false"
            " --dir $turn --out output http://127.0.0.1:$port/file",
            _HASH,
        ),
    ),
)
