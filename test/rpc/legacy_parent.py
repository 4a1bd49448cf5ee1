"""
A parent that speaks the piece methods of before January 2026 over gRPC, with nothing but bytes: what it offers, it
offers honestly or with one fault.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.threads import deferToThread

from dragonfly_vortex.testing.contract_parent import Fault, Offer
from dragonfly_vortex.testing.pieces import SamplePiece
from test.rpc.by_hand import LEGACY_PATHS, piece_reply, read_fields
from test.rpc.conditions import Conditions
from test.rpc.faulty_road import FaultyRoad, Trouble

__all__ = ["LegacyParent"]

_STATUSES = {
    Fault.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Fault.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    Fault.INTERNAL: grpc.StatusCode.INTERNAL,
}


class LegacyParent:
    """
    Serve pieces. It says "not found" to what it does not offer. Between it and its children lies a
    :class:`~test.rpc.faulty_road.FaultyRoad`, for faults that no server of grpcio's can be made to have.

    :param reactor: runs the callbacks.
    :param offers: what it has.
    :param metadata_digest: the digest of metadata that it sends with every piece; None for none.
    """

    def __init__(self, reactor: Any, offers: Iterable[Offer], *, metadata_digest: str | None = None) -> None:
        self.address = ""
        """Where it listens, ``HOST:PORT``."""
        self.requests: list[dict[int, int | bytes]] = []
        """What it has been asked for, as fields."""
        self.calls = 0
        """How many calls are under way."""
        self._reactor = reactor
        self._offers = {(offer.piece.kind, offer.piece.number): offer for offer in offers}
        self._metadata_digest = metadata_digest
        self._conditions = Conditions()
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.road = FaultyRoad(IReactorTCP(reactor), port)

    def start(self) -> None:
        """Listen."""
        self._server.start()
        self.road.start()
        self.address = self.road.address

    def stop(self) -> Deferred[None]:
        """End everything; fires when it has ended."""
        return self.road.stop().addCallback(lambda _: deferToThread(lambda: self._server.stop(None).wait() and None))

    def until_asked(self, requests: int = 1) -> Deferred[None]:
        """Fires when that many requests have arrived, in all."""
        return self._conditions.until(lambda: len(self.requests) >= requests)

    def until_deserted(self) -> Deferred[None]:
        """Fires when no call is under way. A channel stays for the next one."""
        return self._conditions.until(lambda: not self.calls)

    # -- in grpcio's threads

    def answer(self, path: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """The reply to a call: one message, or none."""
        kind = next(kind for kind, legacy in LEGACY_PATHS.items() if legacy == path)
        fields = read_fields(request)
        ended = threading.Event()
        self._reactor.callFromThread(self._asked, fields)

        def end() -> None:
            ended.set()
            self._reactor.callFromThread(self._ended)

        if not context.add_callback(end):  # it has ended before it began
            end()
            return
        offer = self._offers.get((kind, int(fields.get(3, 0))))
        fault = Fault.NOT_FOUND if offer is None else offer.fault
        if offer is None or fault in _STATUSES:
            context.abort(_STATUSES[fault], f"told to say {fault.name}")
        elif fault is Fault.SILENT:
            ended.wait()
        else:
            reply = piece_reply(_with_fault(offer.piece, fault), metadata_digest=self._metadata_digest)
            if fault in (Fault.TRUNCATED, Fault.STALLED):
                trouble = Trouble.CUT if fault is Fault.TRUNCATED else Trouble.JAM
                self.road.make_trouble(trouble, len(reply) // 2)
            yield reply
            if fault is Fault.STALLED:
                ended.wait()

    # -- in the reactor's thread

    def _asked(self, fields: dict[int, int | bytes]) -> None:
        self.requests.append(fields)
        self.calls += 1
        self._conditions.look()

    def _ended(self) -> None:
        self.calls -= 1
        self.road.clear()
        self._conditions.look()


class _Handlers(grpc.GenericRpcHandler):
    """The methods that there are: requests and replies are bytes."""

    def __init__(self, parent: LegacyParent) -> None:
        self._parent = parent

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        path = str(handler_call_details.method)
        if path not in LEGACY_PATHS.values():
            return None
        # To a child a stream of one message is the same as a unary reply; here it lets a call stay open behind it.
        return grpc.unary_stream_rpc_method_handler(
            lambda request, context: self._parent.answer(path, request, context)
        )


def _with_fault(piece: SamplePiece, fault: Fault) -> SamplePiece:
    """A piece as it is sent."""
    if fault is Fault.WRONG_BYTE:
        middle = len(piece.content) // 2
        wrong = bytes([piece.content[middle] ^ 1])
        return replace(piece, content=piece.content[:middle] + wrong + piece.content[middle + 1 :])
    if fault is Fault.NO_DIGEST:
        return replace(piece, metadata=replace(piece.metadata, digest=""))
    if fault is Fault.WRONG_NUMBER:
        return replace(piece, metadata=replace(piece.metadata, number=piece.number + 1))
    return piece
