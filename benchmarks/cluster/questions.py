"""What is asked of a peer directly, as its children ask it."""

from __future__ import annotations

import time

import grpc
from dragonfly_api import dfdaemon_pb2, dfdaemon_pb2_grpc

from benchmarks.cluster.programs import Peer
from benchmarks.processes import DidNotWork

__all__ = ["network_of", "pieces_of"]


def pieces_of(peer: Peer, task_id: str, count: int) -> float:
    """
    Ask for the pieces of a task on a new connection.

    :param count: how many there are.
    :returns: seconds from the question to the end of the answer.
    """
    with _channel(peer) as channel:
        stub = dfdaemon_pb2_grpc.DfdaemonUploadStub(channel)
        request = dfdaemon_pb2.SyncPiecesRequest(
            host_id="benchmark", task_id=task_id, interested_piece_numbers=range(count)
        )
        began = time.perf_counter()
        found = sum(1 for _ in stub.SyncPieces(request, timeout=10))
        seconds = time.perf_counter() - began
    if found != count:
        raise DidNotWork(f"expected {count} pieces, got {found}")
    return seconds


def network_of(peer: Peer) -> tuple[list[float], int]:
    """
    Ask three times about the host.

    :returns: when each answer came, in seconds, and what the host can send, in bits a second.
    """
    with _channel(peer) as channel:
        stub = dfdaemon_pb2_grpc.DfdaemonUploadStub(channel)
        stream = stub.SyncHost(dfdaemon_pb2.SyncHostRequest(host_id="benchmark"), timeout=20)
        times, most = [], 0
        for _ in range(3):
            most = next(stream).network.max_tx_bandwidth
            times.append(time.monotonic())
        stream.cancel()
    return times, most


def _channel(peer: Peer) -> grpc.Channel:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    channel = grpc.insecure_channel(f"127.0.0.1:{peer.grpc_port}", options)
    grpc.channel_ready_future(channel).result(10)
    return channel
