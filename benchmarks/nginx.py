"""nginx as a parent, tuned in its favour: one worker that sends files of ``$task``, and ranges of them."""

from __future__ import annotations

from string import Template

from benchmarks.contestant import Parent

__all__ = ["nginx"]

_CONFIG = Template("""\
daemon off;
user $user $group;
worker_processes 1;
pid $turn/nginx.pid;
error_log stderr notice;
events { worker_connections 1024; multi_accept on; }
http {
    access_log off;
    sendfile on;
    tcp_nopush $nopush;
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
""")


def nginx(*, nopush: bool) -> Parent:
    """
    nginx: sendfile, no log, descriptors kept open, connections kept for as long as a child asks.

    :param nopush: whether a header waits for what comes behind it (``tcp_nopush``), which is good for a large file, and
        holds back the last of several small replies.
    """
    return Parent(
        command="nginx -e stderr -c $turn/nginx.conf",
        says="start worker process ",
        files={"nginx.conf": _CONFIG.safe_substitute(nopush="on" if nopush else "off")},
    )
