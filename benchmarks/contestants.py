"""
The contestants of the contest, as data: commands that serve, and commands that fetch.

Commands and files are templates of :class:`string.Template`:

``$task``
    a directory that is kept: ``$task/file`` is what is fetched, ``$task/storage`` our storage with it;
``$turn``
    an empty directory of each turn;
``$run``
    a directory of the whole run: ``$run/certificate.pem`` and ``$run/key.pem`` are for 127.0.0.1;
``$port``
    a free port of 127.0.0.1;
``$user``, ``$group``
    the user and group that run this;
``$task_id``, ``$content_length``, ``$piece_length``, ``$piece_count``, ``$concurrency``
    what is fetched, in which pieces, and how many of them at once.

Another contestant is another row of :data:`CONTESTANTS`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from string import Template
from typing import NamedTuple

from benchmarks.tables import Line

__all__ = ["CONTESTANTS", "GROUPS", "TARGETS", "Contestant", "Parent", "fill", "words_of"]

GROUPS = {
    "file": "Into a file, with the whole file's SHA-256",
    "pieces": "Into a file, without the whole file's SHA-256",
    "hash": "The SHA-256 of the file alone",
    "nothing": "Read by one plain client, and thrown away",
    "memory": "From memory to memory",
}
"""What is done with the bytes. Contestants are compared with others of their group."""


class Parent(NamedTuple):
    """
    A program that serves until SIGTERM.

    :ivar command: what starts it. It stays in the foreground.
    :ivar says: a regular expression for what it writes when it accepts connections.
    :ivar files: the files that both sides read, by name, written into ``$turn``.
    """

    command: str
    says: str
    files: Mapping[str, str] = {}


class Contestant(NamedTuple):
    """
    A row of the report.

    :ivar name: for ``--only``.
    :ivar group: a key of :data:`GROUPS`.
    :ivar title: the name in tables.
    :ivar parent: the program that serves.
    :ivar child: the commands that fetch, one after the other; the time is that of all of them.
    :ivar package: a Python package that it needs.
    """

    name: str
    group: str
    title: str
    parent: Parent
    child: list[str]
    package: str = ""

    @property
    def writes(self) -> bool:
        """Whether ``$turn/output`` is the file afterwards; otherwise the bytes are thrown away."""
        return self.group in ("file", "pieces")

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that its commands begin with."""
        return tuple(dict.fromkeys(shlex.split(command)[0] for command in (self.parent.command, *self.child)))


def words_of(command: str, values: Mapping[str, object]) -> list[str]:
    """A command's words. A value stays a part of its word, whatever is in it."""
    return [fill(word, values) for word in shlex.split(command)]


def fill(text: str, values: Mapping[str, object]) -> str:
    """
    A template with its values.

    :raises KeyError: one is missing.
    """
    return Template(text).substitute(values)


# -- parents -----------------------------------------------------------------------------------------------------------


def _daemon(protocol: str, says: str, certificate: str = "") -> Parent:
    """Our daemon with one port, so that neither process loads the other transport."""
    config = (
        "storage:\n"
        "  dir: $task/storage\n"
        f"  server: {{protocol: {protocol}, ip: 127.0.0.1, tcp: {{port: $port}}}}\n"
        f"upload: {{server: {{ip: 127.0.0.1, port: $port{certificate}}}}}\n"
        "metrics: {server: {ip: 127.0.0.1, port: 0}}\n"
        "health: {enable: false}\n"
    )
    command = "twistd -n --pidfile= dfvortex --config $turn/parent.yaml"
    child = "tls: {ca_cert: $run/certificate.pem}\n"
    return Parent(command, f"serving {says} on ", {"parent.yaml": config, "child.yaml": child})


_TCP = _daemon("tcp", "Vortex")
_GRPC = _daemon("grpc", "gRPC")
_TLS = _daemon("tcp", "Vortex", ", cert: $run/certificate.pem, key: $run/key.pem")

# Tuned in its favour: one worker, sendfile, no log, open descriptors and connections kept. /bucket is an object storage
# that everybody may read.
_NGINX = Parent(
    "nginx -e stderr -c $turn/nginx.conf",
    "start worker process ",
    {
        "nginx.conf": """\
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
        location = /bucket { return 200; }
        location /bucket/ { alias $task/; }
    }
}
"""
    },
)
_REFERENCE = Parent(
    "vortex-reference serve --file $task/file --task-id $task_id --piece-length $piece_length"
    " --storage $task/reference --port $port",
    "serving on ",
)
_IPERF = Parent("iperf3 --server --bind 127.0.0.1 --port $port --forceflush", "Server listening")
_TLS_LOOP = Parent(
    "python -m benchmarks.programs.tls_loop serve --port $port --certificate $run/certificate.pem --key $run/key.pem",
    "serving",
)
_TORRENT = Parent(
    "python -m benchmarks.programs.torrent serve $turn/file.torrent $task/file --port $port --piece-length 4194304",
    "seeding",
)

# -- children ----------------------------------------------------------------------------------------------------------

# Without a wait for the disk, as all others do: the time ends when the bytes are in the page cache.
_DOWNLOAD = "dfvortex download $task_id --concurrency $concurrency --output $turn/output --no-sync"

# Verifies pieces, and not the whole file.
_PIECES = (
    "python -m benchmarks.programs.pieces $task_id --concurrency $concurrency --output $turn/output"
    " --content-length $content_length --piece-length $piece_length --parent 127.0.0.1:$port"
)

# Through the reference's own storage, as its daemon writes; with --plain straight into the output.
_FETCH = (
    "vortex-reference fetch --parent 127.0.0.1:$port --task-id $task_id --piece-count $piece_count"
    " --content-length $content_length --piece-length $piece_length --concurrency $concurrency"
    " --storage $turn/storage --output $turn/output"
)

# Reads every piece, and throws it away.
_READ = (
    "python -m benchmarks.programs.plain --port $port --content-length $content_length --piece-length $piece_length"
    " --connections $concurrency"
)
_CURL = "curl --silent --show-error --fail --output $turn/output http://127.0.0.1:$port/file"

# Eight connections, no allocation of the file before it comes, no configuration.
_ARIA = (
    "aria2c --no-conf --quiet --file-allocation=none -x8 -s8 -k4M --async-dns=false"
    " --dir $turn --out output http://127.0.0.1:$port/file"
)
_S3 = (  # parts of 4 MiB
    "s5cmd --no-sign-request --endpoint-url http://127.0.0.1:$port --log error"
    " cp --concurrency $concurrency --part-size 4 s3://bucket/file $turn/output"
)
_TORRENT_FETCH = "python -m benchmarks.programs.torrent fetch $turn/file.torrent $turn/output --port $port"
_HASH = "python -m benchmarks.programs.sha256 $turn/output $task_id"

# The server sends, as every other parent does.
_RECEIVE = "iperf3 --client 127.0.0.1 --port $port --reverse --bytes $content_length"

_OVER_TCP = f"{_DOWNLOAD} --protocol tcp --parent tcp://127.0.0.1:$port"
_OVER_GRPC = f"{_DOWNLOAD} --protocol grpc --parent grpc://127.0.0.1:$port"
_OVER_TLS = f"{_DOWNLOAD} --protocol tcp --parent tls://127.0.0.1:$port --config $turn/child.yaml"
_SYNCED = _OVER_TCP.replace(" --no-sync", "")
_PIECES_OVER_TLS = f"{_PIECES.replace('--parent ', '--parent tls://')} --protocol tcp --config $turn/child.yaml"
_FETCH_LOOP = "python -m benchmarks.programs.tls_loop fetch --port $port --content-length $content_length"

_ROWS = (
    Contestant("tcp", "file", "ours, TCP", _TCP, [_OVER_TCP]),
    Contestant("grpc", "file", "ours, gRPC", _GRPC, [_OVER_GRPC]),
    Contestant("tls", "file", "ours, TCP under TLS", _TLS, [_OVER_TLS]),
    Contestant("tcp-synced", "file", "ours, TCP, and until it is on the disk", _TCP, [_SYNCED]),
    Contestant("tcp-pieces", "pieces", "ours from ours, TCP", _TCP, [f"{_PIECES} --protocol tcp"]),
    Contestant("grpc-pieces", "pieces", "ours from ours, gRPC", _GRPC, [f"{_PIECES} --protocol grpc"]),
    Contestant("tls-pieces", "pieces", "ours from ours, TCP under TLS", _TLS, [_PIECES_OVER_TLS]),
    Contestant("sha256", "hash", "hashlib", _TCP, [_HASH.replace("$turn/output", "$task/file")]),
    Contestant("curl", "file", "nginx, curl, hashlib", _NGINX, [_CURL, _HASH]),
    Contestant("aria2", "file", "nginx, aria2, hashlib", _NGINX, [_ARIA, _HASH]),
    Contestant("s5cmd", "file", "nginx, s5cmd, hashlib", _NGINX, [_S3, _HASH]),
    Contestant("libtorrent", "pieces", "libtorrent, one connection", _TORRENT, [_TORRENT_FETCH], "libtorrent"),
    Contestant("ours-from-reference", "pieces", "ours from the reference", _REFERENCE, [f"{_PIECES} --protocol tcp"]),
    Contestant("reference-from-ours", "pieces", "the reference from ours", _TCP, [_FETCH]),
    Contestant(
        *("plain-reference-from-ours", "pieces", "the reference, plain writes, from ours", _TCP), [f"{_FETCH} --plain"]
    ),
    Contestant("reference", "pieces", "the reference from the reference", _REFERENCE, [_FETCH]),
    Contestant(
        *("plain-reference", "pieces", "the reference, plain writes, from the reference", _REFERENCE),
        [f"{_FETCH} --plain"],
    ),
    Contestant("plain-from-ours", "nothing", "a plain client from ours, by Vortex", _TCP, [f"{_READ} vortex $task_id"]),
    Contestant("plain-from-nginx", "nothing", "a plain client from nginx, by HTTP", _NGINX, [f"{_READ} http /file"]),
    Contestant(
        *("plain-from-reference", "nothing", "a plain client from the reference, by Vortex", _REFERENCE),
        [f"{_READ} vortex $task_id"],
    ),
    Contestant("tls-loop", "memory", "a loop over pyOpenSSL, one connection", _TLS_LOOP, [_FETCH_LOOP]),
    Contestant("iperf3", "memory", "iperf3, one connection", _IPERF, [_RECEIVE]),
)

CONTESTANTS = {each.name: each for each in _ROWS}
"""All of them by name, in the order of the report."""

# -- targets -----------------------------------------------------------------------------------------------------------

TARGETS = (
    Line(title="whole command, TCP : gRPC", ours="tcp", other="grpc", at_least=2.5),
    Line(title="pieces, TCP : gRPC", ours="tcp-pieces", other="grpc-pieces", at_least=3.0),
    Line(title="whole command : nginx, curl, hash", ours="tcp", other="curl", at_least=1.5),
    Line(title="whole command : nginx, aria2, hash", ours="tcp", other="aria2", at_least=1.5),
    *(
        Line(title=f"{title} : reference from itself, {how}", ours=ours, other=other, at_least=1.0)
        for other, how in (("reference", "its storage"), ("plain-reference", "plain writes"))
        for title, ours in (
            ("ours from ours", "tcp-pieces"),
            ("ours from reference", "ours-from-reference"),
            ("reference from ours", f"{other}-from-ours"),
        )
    ),
    Line(
        title="processor time of a parent read by the plain client, ours : nginx",
        ours="plain-from-ours",
        other="plain-from-nginx",
        by="parent_processor",
        at_most=1.2,
    ),
    Line(title="pieces : iperf3", ours="tcp-pieces", other="iperf3", at_least=0.4),
    Line(title="whole command : iperf3", ours="tcp", other="iperf3", at_least=0.25),
)
"""
What was to be reached; the child of the reference is compared in both of its ways to write. What is asked of TLS and
of the hash alone is in :mod:`benchmarks.speed`.
"""
