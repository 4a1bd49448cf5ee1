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

Another contestant is another value in :data:`CONTESTANTS`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template

__all__ = ["CONTESTANTS", "GROUPS", "NGINX", "TARGETS", "Contestant", "Parent", "Target", "fill", "nginx", "words_of"]

GROUPS = {
    "file": "Into a file, with the whole file's SHA-256",
    "pieces": "Into a file, without the whole file's SHA-256",
    "hash": "The SHA-256 of the file alone",
    "nothing": "Read by one plain client, and thrown away",
    "memory": "From memory to memory",
}
"""What is done with the bytes. Contestants are compared with others of their group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """
    A program that serves until SIGTERM.

    :param command: what starts it. It stays in the foreground.
    :param says: a regular expression for what it writes when it accepts connections.
    :param files: the files that the command reads, by name, written into ``$turn``.
    """

    command: str
    says: str
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """
    A row of the report.

    :param name: for ``--only``.
    :param title: the name in tables.
    :param group: a key of :data:`GROUPS`.
    :param parent: the program that serves.
    :param child: the commands that fetch, one after the other; the time is that of all of them.
    :param files: the files that these read, by name, written into ``$turn``.
    """

    name: str
    title: str
    group: str
    parent: Parent
    child: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        """Whether ``$turn/output`` is the file afterwards; otherwise the bytes are thrown away."""
        return self.group in ("file", "pieces")

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that its commands begin with."""
        return tuple(dict.fromkeys(shlex.split(command)[0] for command in (self.parent.command, *self.child)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    A ratio that was to be reached, of two contestants' best turns.

    :param title: what is compared.
    :param ours: the name of one side.
    :param other: the name of the other.
    :param at_least: how many times as fast ours must be; None where processor time is compared.
    :param at_most: how many times the processor time of the other's parent our parent may need; None otherwise.
    """

    title: str
    ours: str
    other: str
    at_least: float | None = None
    at_most: float | None = None


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
    return Parent(command=command, says=f"serving {says} on ", files={"parent.yaml": config})


_TCP = _daemon("tcp", "Vortex")
_GRPC = _daemon("grpc", "gRPC")
_TLS = _daemon("tcp", "Vortex", ", cert: $run/certificate.pem, key: $run/key.pem")


def nginx(*, nopush: bool) -> Parent:
    """
    nginx, tuned in its favour: one worker, sendfile, no log, open descriptors and connections kept.

    :param nopush: whether a header waits for what follows it (``tcp_nopush``): good for a large file, bad for the last
        of several small replies.
    """
    temporary = "".join(
        f"    {name}_temp_path $turn/{directory};\n"
        for name, directory in (
            *(("client_body", "body"), ("proxy", "proxy"), ("fastcgi", "fastcgi")),
            *(("scgi", "scgi"), ("uwsgi", "uwsgi")),
        )
    )
    config = (
        "daemon off;\nuser $user $group;\nworker_processes 1;\npid $turn/nginx.pid;\nerror_log stderr notice;\n"
        "events { worker_connections 1024; multi_accept on; }\n"
        "http {\n    access_log off;\n    sendfile on;\n"
        f"    tcp_nopush {'on' if nopush else 'off'};\n"
        "    keepalive_requests 1000000;\n    open_file_cache max=16;\n"
        f"{temporary}    server {{\n        listen 127.0.0.1:$port;\n        root $task;\n"
        "        location = /bucket { return 200; }\n        location /bucket/ { alias $task/; }\n    }\n}\n"
    )
    return Parent(
        command="nginx -e stderr -c $turn/nginx.conf", says="start worker process ", files={"nginx.conf": config}
    )


NGINX = nginx(nopush=True)

_REFERENCE = Parent(
    command=(
        "vortex-reference serve --file $task/file --task-id $task_id --piece-length $piece_length"
        " --storage $task/reference --port $port"
    ),
    says="serving on ",
)

_IPERF = Parent(command="iperf3 --server --bind 127.0.0.1 --port $port --forceflush", says="Server listening")

_TLS_LOOP = Parent(
    command=(
        "python -m benchmarks.programs.tls_loop serve --port $port --certificate $run/certificate.pem"
        " --key $run/key.pem"
    ),
    says="serving",
)

_TORRENT = Parent(
    command=(
        "python -m benchmarks.programs.torrent_file serve $turn/file.torrent $task/file --port $port"
        " --piece-length 4194304"
    ),
    says="seeding",
)

# -- children ----------------------------------------------------------------------------------------------------------

_DOWNLOAD = "dfvortex download $task_id --concurrency $concurrency --output $turn/output"

_UNSYNCED = f"{_DOWNLOAD} --no-sync"
"""As all others do: the time ends when the bytes are in the page cache, not when they are on the disk."""

_PIECES = (
    "python -m benchmarks.programs.pieces $task_id --concurrency $concurrency --output $turn/output"
    " --content-length $content_length --piece-length $piece_length --parent 127.0.0.1:$port"
)
"""Verifies pieces, and not the whole file."""

_FETCH = (
    "vortex-reference fetch --parent 127.0.0.1:$port --task-id $task_id --piece-count $piece_count"
    " --content-length $content_length --piece-length $piece_length --concurrency $concurrency"
    " --storage $turn/storage --output $turn/output"
)
"""Through the reference's own storage, as its daemon writes; with ``--plain`` straight into the output."""

_READ = (
    "python -m benchmarks.programs.plain --port $port --content-length $content_length --piece-length $piece_length"
    " --connections $concurrency"
)
"""Reads every piece, and throws it away."""

_CURL = "curl --silent --show-error --fail --output $turn/output http://127.0.0.1:$port/file"

_ARIA = (
    "aria2c --no-conf --quiet --file-allocation=none -x8 -s8 -k4M --async-dns=false"
    " --dir $turn --out output http://127.0.0.1:$port/file"
)
"""Eight connections, no allocation of the file before it comes, no configuration."""

_S3 = (
    "s5cmd --no-sign-request --endpoint-url http://127.0.0.1:$port --log error"
    " cp --concurrency $concurrency --part-size 4 s3://bucket/file $turn/output"
)
"""Parts of 4 MiB; nginx answers as an object storage does that everybody may read."""

_TORRENT_FETCH = "python -m benchmarks.programs.torrent_file fetch $turn/file.torrent $turn/output --port $port"

_HASH_ALONE = "python -m benchmarks.programs.sha256 $task/file $task_id"

_HASH = "python -m benchmarks.programs.sha256 $turn/output $task_id"

# The server sends, as every other parent does.
_RECEIVE = "iperf3 --client 127.0.0.1 --port $port --reverse --bytes $content_length"


def _contestant(
    name: str, group: str, title: str, parent: Parent, *child: str, files: Mapping[str, str] | None = None
) -> Contestant:
    return Contestant(name=name, title=title, group=group, parent=parent, child=child, files=files or {})


_ROWS = (
    _contestant("tcp", "file", "ours, TCP", _TCP, f"{_UNSYNCED} --parent tcp://127.0.0.1:$port --protocol tcp"),
    _contestant("grpc", "file", "ours, gRPC", _GRPC, f"{_UNSYNCED} --parent grpc://127.0.0.1:$port --protocol grpc"),
    _contestant(
        *("tls", "file", "ours, TCP under TLS", _TLS),
        f"{_UNSYNCED} --parent tls://127.0.0.1:$port --protocol tcp --config $turn/child.yaml",
        files={"child.yaml": "tls: {ca_cert: $run/certificate.pem}\n"},
    ),
    _contestant(
        *("tcp-synced", "file", "ours, TCP, and until it is on the disk", _TCP),
        f"{_DOWNLOAD} --parent tcp://127.0.0.1:$port --protocol tcp",
    ),
    _contestant("tcp-pieces", "pieces", "ours from ours, TCP", _TCP, f"{_PIECES} --protocol tcp"),
    _contestant("grpc-pieces", "pieces", "ours from ours, gRPC", _GRPC, f"{_PIECES} --protocol grpc"),
    _contestant(
        *("tls-pieces", "pieces", "ours from ours, TCP under TLS", _TLS),
        f"{_PIECES.replace('127.0.0.1:$port', 'tls://127.0.0.1:$port')} --protocol tcp --config $turn/child.yaml",
        files={"child.yaml": "tls: {ca_cert: $run/certificate.pem}\n"},
    ),
    _contestant("sha256", "hash", "hashlib", _TCP, _HASH_ALONE),
    _contestant("curl", "file", "nginx, curl, hashlib", NGINX, _CURL, _HASH),
    _contestant("aria2", "file", "nginx, aria2, hashlib", NGINX, _ARIA, _HASH),
    _contestant("s5cmd", "file", "nginx, s5cmd, hashlib", NGINX, _S3, _HASH),
    _contestant("libtorrent", "pieces", "libtorrent, one connection", _TORRENT, _TORRENT_FETCH),
    _contestant("ours-from-reference", "pieces", "ours from the reference", _REFERENCE, f"{_PIECES} --protocol tcp"),
    _contestant("reference-from-ours", "pieces", "the reference from ours", _TCP, _FETCH),
    _contestant(
        "plain-reference-from-ours", "pieces", "the reference, plain writes, from ours", _TCP, f"{_FETCH} --plain"
    ),
    _contestant("reference", "pieces", "the reference from the reference", _REFERENCE, _FETCH),
    _contestant(
        *("plain-reference", "pieces", "the reference, plain writes, from the reference", _REFERENCE),
        f"{_FETCH} --plain",
    ),
    _contestant("plain-from-ours", "nothing", "a plain client from ours, by Vortex", _TCP, f"{_READ} vortex $task_id"),
    _contestant("plain-from-nginx", "nothing", "a plain client from nginx, by HTTP", NGINX, f"{_READ} http /file"),
    _contestant(
        *("plain-from-reference", "nothing", "a plain client from the reference, by Vortex", _REFERENCE),
        f"{_READ} vortex $task_id",
    ),
    _contestant(
        *("tls-loop", "memory", "a loop over pyOpenSSL, one connection", _TLS_LOOP),
        "python -m benchmarks.programs.tls_loop fetch --port $port --content-length $content_length",
    ),
    _contestant("iperf3", "memory", "iperf3, one connection", _IPERF, _RECEIVE),
)

CONTESTANTS = {each.name: each for each in _ROWS}
"""All of them by name, in the order of the report."""

# -- targets -----------------------------------------------------------------------------------------------------------

TARGETS = (
    Target(title="whole command, TCP : gRPC", ours="tcp", other="grpc", at_least=2.5),
    Target(title="pieces, TCP : gRPC", ours="tcp-pieces", other="grpc-pieces", at_least=3.0),
    Target(title="whole command : nginx, curl, hash", ours="tcp", other="curl", at_least=1.5),
    Target(title="whole command : nginx, aria2, hash", ours="tcp", other="aria2", at_least=1.5),
    *(
        Target(title=f"{title} : reference from itself, {how}", ours=ours, other=other, at_least=1.0)
        for other, how in (("reference", "its storage"), ("plain-reference", "plain writes"))
        for title, ours in (
            ("ours from ours", "tcp-pieces"),
            ("ours from reference", "ours-from-reference"),
            ("reference from ours", f"{other}-from-ours"),
        )
    ),
    Target(
        title="processor time of a parent read by the plain client, ours : nginx",
        ours="plain-from-ours",
        other="plain-from-nginx",
        at_most=1.2,
    ),
    Target(title="pieces : iperf3", ours="tcp-pieces", other="iperf3", at_least=0.4),
    Target(title="whole command : iperf3", ours="tcp", other="iperf3", at_least=0.25),
)
"""
What was to be reached; the child of the reference is compared in both of its ways to write. What is asked of TLS and
of the hash alone is in :mod:`benchmarks.speed_table`.
"""
