"""What streams are asked for, whose turn it is to say something, and how long a stream may last."""

from __future__ import annotations

import asyncio
import random
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.rpc.streams import Interest, LoopTurns, time_for
from dragonfly_vortex.rpc.task_watch import Arrival

_T = TypeVar("_T")


def told(interest: Interest, *numbers: int) -> list[int]:
    """The messages about pieces that arrived, in order."""
    return [numbers[found & 0xFFFF_FFFF] for found in sorted(interest.find([Arrival(n, b"") for n in numbers]))]


class InterestTests(SynchronousTestCase):
    """The numbers that a stream is asked for."""

    def test_order(self) -> None:
        """Pieces are found in the order in which they are asked for, not in that in which they come."""
        interest = Interest([7, 0, 2**32 - 1])
        self.assertEqual(told(interest, 0, 1, 7), [7, 0])
        self.assertEqual((told(interest, 2**32 - 1, 8), interest.left), ([2**32 - 1], 0))

    def test_twice(self) -> None:
        """A piece is found as often as it is asked for."""
        interest = Interest([3, 1, 3])
        self.assertEqual((told(interest, 3), interest.left), ([3, 3], 1))

    def test_memory(self) -> None:
        """A stream that is not read keeps 16 bytes for each number that it was asked for, however often it is one."""
        arrivals = [Arrival(number, b"message") for number in range(10)]
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        kept = Interest([7] * 65_536)
        found = kept.find(arrivals)
        after, _ = tracemalloc.get_traced_memory()
        self.assertEqual(len(found), 65_536)
        self.assertLess(after - before, 18 * 65_536)

    def test_whole_task(self) -> None:
        """Numbers that follow one another need no table, and are found as others are."""
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        interest = Interest(range(3, 65_536))
        after, _ = tracemalloc.get_traced_memory()
        self.assertLess(after - before, 4096)
        self.assertEqual(told(interest, 70_000, 7, 2, 3, 65_535), [3, 7, 65_535])
        self.assertEqual(interest.left, 65_533 - 3)

    def test_later(self) -> None:
        """Pieces that come later are counted on from those before."""
        interest = Interest([5, 4])
        found = [*interest.find([Arrival(4, b"")]), *interest.find([Arrival(6, b""), Arrival(5, b"")], 1)]
        self.assertEqual([each & 0xFFFF_FFFF for each in sorted(found)], [2, 0])

    def test_none(self) -> None:
        """Where nothing is asked for nothing is found."""
        interest = Interest([])
        self.assertEqual((told(interest, 0, 1), interest.left), ([], 0))

    def test_any(self) -> None:
        """Whatever is asked for and comes, the right pieces are found."""
        draw = random.Random(1)
        for _ in range(50):
            asked = [draw.randrange(20) for _ in range(draw.randrange(30))]
            came = draw.sample(range(20), 10)
            expected = [number for number in asked if number in came]
            self.assertEqual(told(Interest(asked), *came), expected)


class TurnTests(SynchronousTestCase):
    """Coroutines that take turns, ten at a time."""

    def in_loop(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Run a coroutine function to its end."""

        async def run() -> _T:
            return await asyncio.wait_for(work(), 120)

        return asyncio.run(run())

    async def crowd(self, turns: LoopTurns, gone: list[int]) -> list[asyncio.Task[None]]:
        """A thousand coroutines that wait for a turn, and note that they have had it."""

        async def one(number: int) -> None:
            await turns.wait()
            gone.append(number)

        return [asyncio.create_task(one(number)) for number in range(1000)]

    def test_order(self) -> None:
        """All get a turn, in the order in which they asked."""

        async def work() -> list[int]:
            gone: list[int] = []
            await asyncio.gather(*await self.crowd(LoopTurns(), gone))
            return gone

        self.assertEqual(self.in_loop(work), list(range(1000)))

    def test_others_go_on(self) -> None:
        """Work that needs some turns of the loop is done while most of the crowd still waits."""

        async def work() -> int:
            gone: list[int] = []
            crowd = await self.crowd(LoopTurns(), gone)
            for _ in range(10):
                await asyncio.sleep(0)
            has_gone = len(gone)
            await asyncio.gather(*crowd)
            return has_gone

        self.assertLessEqual(self.in_loop(work), 110)

    def test_calls_first(self) -> None:
        """Calls that come in one after the other are not held up by the crowd, and do not hold it up for ever."""

        async def work() -> list[float]:
            gone: list[int] = []
            turns = LoopTurns()
            crowd = asyncio.gather(*await self.crowd(turns, gone))
            calls = 0
            while not crowd.done():
                turns.call_begins()
                calls += 1
                await asyncio.sleep(0)
            await crowd
            return [calls, len(gone)]

        calls, gone = self.in_loop(work)
        self.assertGreater(calls, 1000)
        self.assertEqual(gone, 1000)

    def test_cancelled(self) -> None:
        """A coroutine that is cancelled while it waits takes no turn from the others."""

        async def work() -> list[int]:
            gone: list[int] = []
            crowd = await self.crowd(LoopTurns(), gone)
            await asyncio.sleep(0)
            for task in crowd[500:]:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
            return gone

        self.assertEqual(self.in_loop(work), list(range(500)))


class DeadlineTests(SynchronousTestCase):
    """How long a stream may last."""

    def test_as_grpcio_sends_it(self) -> None:
        """It ends before its caller's deadline, by whatever timeout grpcio has sent, and not much earlier."""
        remaining: list[float] = []
        arrived_at = 0.0

        def serve(request: bytes, context: Any) -> bytes:
            nonlocal arrived_at
            remaining.append(context.time_remaining())
            arrived_at = time.monotonic()
            return b""

        server = grpc.server(ThreadPoolExecutor(1))
        handlers: dict[str, Any] = {"Ask": grpc.unary_unary_rpc_method_handler(serve)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.addCleanup(server.stop, None)
        for before, timeout in (
            (None, 20.0),
            (20.5, 20.0),
            (None, 100.1),
            (None, 1001.0),
            (1009.0, 981.0),
            (10.01, 9.81),
        ):
            with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
                call: Any = channel.unary_unary("/test/Ask")
                if before is not None:
                    call(b"", timeout=before)
                begun = time.monotonic()
                call(b"", timeout=timeout)
            self.assertLess(time_for(remaining[-1]), timeout - 0.4, remaining)
            on_the_way = arrived_at - begun
            self.assertGreater(time_for(remaining[-1] + on_the_way), timeout * 0.94 - 1, remaining)
        self.assertGreater(max(remaining), 1001.5)  # or grpcio does not do this any more

    def test_short(self) -> None:
        """A short deadline leaves no time."""
        self.assertLess(time_for(0.4), 0)
