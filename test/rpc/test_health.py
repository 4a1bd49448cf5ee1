"""What is said about the health of the gRPC door."""

from __future__ import annotations

import asyncio
import types
from typing import Any

from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.rpc.health import HEALTH_SERVICE, HealthRPCs
from test.rpc.serving import ServiceTestCase

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def about(service: str) -> health_pb2.HealthCheckRequest:
    """The question about a service."""
    return health_pb2.HealthCheckRequest(service=service)


class HealthTests(ServiceTestCase):
    """A child asks with the client of grpcio-health-checking."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        await super().setUp()
        self.health: Any = health_pb2_grpc.HealthStub(self.channel)

    async def test_check(self) -> None:
        """The service and the whole are serving, and another service is not found."""

        def check() -> list[Any]:
            return [self.health.Check(about(name)).status for name in ("", "dfdaemon.v2.DfdaemonUpload")]

        self.assertEqual(await self.child(check), [SERVING, SERVING])
        code, _ = await self.child(lambda: self.refusal(lambda: self.health.Check(about("x"))))
        self.assertIs(code, StatusCode.NOT_FOUND)

    async def test_watch(self) -> None:
        """A stream says that the service stops, and ends well; one about an unknown service stays open until then."""

        def begin() -> tuple[list[Any], list[Any]]:
            streams = [self.health.Watch(about(name)) for name in ("", "x")]
            return streams, [next(stream).status for stream in streams]

        streams, states = await self.child(begin)
        self.assertEqual(states, [SERVING, SERVICE_UNKNOWN])
        await self.service.stop(5)
        rest = await self.child(lambda: [[reply.status for reply in stream] for stream in streams])
        self.assertEqual(rest, [[NOT_SERVING], []])
        self.assertEqual([stream.code() for stream in streams], [StatusCode.OK, StatusCode.OK])


class _Context:
    """A call during whose first message the service begins to stop."""

    def __init__(self, closing: asyncio.Event) -> None:
        self.told: list[int] = []
        self._closing = closing

    async def write(self, response: Any) -> None:
        """Take a message."""
        self._closing.set()
        self.told.append(response.status)


class StopTests(SynchronousTestCase):
    """A stream while the service stops."""

    def test_while_it_is_told(self) -> None:
        """A service that begins to stop while a stream says that it serves is said to have stopped, too."""

        async def watch(service: str) -> list[int]:
            closing = asyncio.Event()
            rpcs, context = HealthRPCs(frozenset({""}), closing), _Context(closing)
            handler: Any = rpcs.handlers()
            call = types.SimpleNamespace(method=f"/{HEALTH_SERVICE}/Watch", invocation_metadata=())
            await handler.service(call).unary_stream(about(service), context)
            return context.told

        self.assertEqual(asyncio.run(watch("")), [SERVING, NOT_SERVING])
        self.assertEqual(asyncio.run(watch("x")), [SERVICE_UNKNOWN])
