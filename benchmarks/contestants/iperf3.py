"""The ceiling: what the loopback moves from one process's memory to another's, in one connection, by iperf3."""

from __future__ import annotations

from benchmarks.contestant import Contestant, Parent

__all__ = ["CONTESTANTS"]

CONTESTANTS = (
    Contestant(
        name="iperf3",
        title="iperf3, one connection",
        group="memory",
        parent=Parent(command="iperf3 --server --bind 127.0.0.1 --port $port --forceflush", says="Server listening"),
        # Reverse: the server sends, as every other parent does.
        child=("iperf3 --client 127.0.0.1 --port $port --reverse --bytes $content_length",),
        writes=False,
    ),
)
