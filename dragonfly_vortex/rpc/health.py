"""
The servicer of ``grpc.health.v1.Health``, which says whether the gRPC door serves.

The servicer of ``grpcio-health-checking`` keeps the streams of ``Watch`` open while a server stops. Only a second,
concurrent stop of the server could end them, and grpcio 1.85 crashes where two run at once.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from dragonfly_vortex.rpc.limits import MAX_PLAIN_REQUEST

__all__ = ["HEALTH_SERVICE", "HealthRPCs"]

HEALTH_SERVICE = "grpc.health.v1.Health"
"""The service that the methods belong to."""

_Request = health_pb2.HealthCheckRequest
_Response = health_pb2.HealthCheckResponse
_Context = grpc.aio.ServicerContext[_Request, _Response]


class HealthRPCs:
    """
    Answers calls. Made in the event loop's thread.

    :param services: the names that are known: all of them serve until ``closing`` is set.
    :param closing: set when the server stops.
    """

    def __init__(self, services: frozenset[str], closing: asyncio.Event) -> None:
        self._services = services
        self._closing = closing

    def handlers(self) -> grpc.GenericRpcHandler:
        """All methods, for a server."""
        coding: dict[str, Any] = {
            "request_deserializer": _Request.FromString,
            "response_serializer": _Response.SerializeToString,
        }
        return grpc.method_handlers_generic_handler(
            HEALTH_SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check, **coding),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch, **coding),
            },
        )

    async def _check(self, request: _Request, context: _Context) -> _Response:
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return self._state()

    async def _watch(self, request: _Request, context: _Context) -> None:
        """Say what the state is, and once more when it changes; a stream about an unknown service stays open, too."""
        if request.ByteSize() > MAX_PLAIN_REQUEST:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "expected a service's name, got more")
        is_known = request.service in self._services
        told = self._state() if is_known else _Response(status=_Response.SERVICE_UNKNOWN)
        await context.write(told)
        await self._closing.wait()  # it may have been set while that was written
        if told.status == _Response.SERVING:
            await context.write(self._state())

    def _state(self) -> _Response:
        return _Response(status=_Response.NOT_SERVING if self._closing.is_set() else _Response.SERVING)
