"""
The settings, the result and the clock of a simulated swarm, for :mod:`dragonfly_vortex.testing.swarm`.
"""

from __future__ import annotations

import enum
import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random

from dragonfly_vortex.errors import TaskError
from dragonfly_vortex.task.timing import Request
from dragonfly_vortex.transport.ratelimit import STEPS_PER_SECOND
from dragonfly_vortex.transport.serving_order import ServingOrder, Turn

__all__ = ["Event", "Lie", "Outcome", "Simulation", "Swarm"]


class Lie(enum.Enum):
    """
    The ways in which a simulated parent lies: each fault of
    :class:`~dragonfly_vortex.testing.contract_parent.Fault`, and one more. It announces all pieces, or none where it is
    :attr:`Swarm.mute`.
    """

    NOT_FOUND = "it says that it does not have the piece"
    INVALID_ARGUMENT = "it says that the request is invalid"
    INTERNAL = "it says that it has failed"
    WRONG_BYTE = "its content does not fit the digest that it names"
    NO_DIGEST = "it names no digest"
    WRONG_NUMBER = "it sends another piece"
    TRUNCATED = "it ends the connection in the middle of the content"
    STALLED = "it stops in the middle of the content"
    SILENT = "it does not answer"
    FORGED = "its content is wrong, and fits the digest that it names"


@dataclass(frozen=True, slots=True, kw_only=True)
class Swarm:
    """
    The settings of a simulated swarm.

    :param peers: how many children there are; those that lie or leave included.
    :param content_length: bytes of the task.
    :param piece_length: bytes of every piece but the last.
    :param rate: bytes per second that each peer sends at most.
    :param rates: the same for single peers.
    :param delay: seconds that a message takes.
    :param announce_delay: seconds from the end of a piece to its announcement: it is written to the disk meanwhile.
    :param start_spread: seconds within which the children start, at random.
    :param at_once: how many pieces a child asks for at once.
    :param neighbours: how many others a child knows, at random; None for all. All know the first peer.
    :param departures: when peers leave, in seconds.
    :param liars: peers that lie. They fetch nothing.
    :param mute: peers that do not announce, such as those with a Vortex door alone: they are asked for anything.
    :param retry: as for :class:`~dragonfly_vortex.task.scheduler.Plan`.
    :param seed: of all chance.
    """

    peers: int
    content_length: int = 80 * 10**6
    piece_length: int = 1 << 20
    rate: float = 10.0 * 10**6
    rates: Mapping[int, float] = field(default_factory=dict)
    delay: float = 0.001
    announce_delay: float = 0.02
    start_spread: float = 0.0
    at_once: int = 8
    neighbours: int | None = None
    departures: Mapping[int, float] = field(default_factory=dict)
    liars: Mapping[int, Lie] = field(default_factory=dict)
    mute: frozenset[int] = frozenset()
    retry: float = 30.0
    seed: int = 0

    @property
    def piece_count(self) -> int:
        """How many pieces the task has."""
        return -(-self.content_length // self.piece_length)

    def length(self, number: int) -> int:
        """Bytes of a piece."""
        return min(self.piece_length, self.content_length - number * self.piece_length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    An event of a child's request.

    :param at: when, in seconds.
    :param what: ``asked``, ``verified``, ``failed``, ``refused`` or ``cancelled``.
    """

    at: float
    what: str
    child: int
    parent: str
    number: int


@dataclass(slots=True, kw_only=True)
class Outcome:
    """
    The result of a simulation.

    :param finished: when each child had the task, in seconds from the beginning of the first.
    :param failed: why the others do not have it; None for one that left, or had not finished at the end.
    :param sent: bytes that left each peer.
    :param kept: bytes that a child kept of a parent, by both.
    :param wrong: bytes that children have at the end, without those that left before, and that are not the task's.
    :param trace: all that happened, in order.
    """

    finished: dict[int, float] = field(default_factory=dict)
    failed: dict[int, TaskError | None] = field(default_factory=dict)
    sent: Counter[int] = field(default_factory=Counter)
    kept: Counter[tuple[int, int]] = field(default_factory=Counter)
    wrong: int = 0
    trace: list[Event] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """When the last child had the task."""
        return max(self.finished.values(), default=0.0)


class Simulation:
    """
    The clock, the random numbers and the results of a swarm.

    :param swarm: what is simulated.
    """

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm
        self.chance = Random(swarm.seed)
        self.outcome = Outcome()
        self.now = 0.0
        """Seconds since the beginning."""
        self.fetching = 0
        """How many children have neither finished nor failed nor left."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._ordinals = count()

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Have something called, in so many seconds; what is due at the same time is called in the order of this."""
        heapq.heappush(self._events, (self.now + seconds, next(self._ordinals), call))

    def run(self, is_over: Callable[[], bool], longest: float) -> None:
        """
        Run all events in the order of their times.

        :param is_over: asked before each event.
        :param longest: seconds after which it ends in any case.
        """
        while self._events and self.now < longest and not is_over():
            self.now, _, call = heapq.heappop(self._events)
            call()


@dataclass(slots=True, kw_only=True, eq=False)
class Transfer:
    """
    A piece that a child has asked of a parent.

    :param child: the number of the child.
    :param number: the number of the piece.
    :param length: bytes of it.
    :param until: bytes after which the parent sends no more; all of them as a rule.
    :param sent: bytes that have left.
    :param is_over: whether the child has its answer, or has given it up.
    """

    child: int
    number: int
    length: int
    request: Request
    until: int = -1
    sent: int = 0
    is_over: bool = False

    def __post_init__(self) -> None:
        if self.until < 0:
            self.until = self.length


class Upload:
    """
    The link of one parent. Its rate goes to one step after the other.

    :param rate: bytes per second.
    :param clock: the time in seconds.
    :param later: has something called, after seconds.
    :param on_end: called with each piece that has left, as far as it is sent.
    """

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], None]], None],
        on_end: Callable[[Transfer], None],
    ) -> None:
        self._rate = rate
        self._order = ServingOrder(clock)
        self._later = later
        self._on_end = on_end
        self._turns: dict[Transfer, Turn] = {}
        self._transfers: dict[Turn, Transfer] = {}
        self._is_busy = False

    @property
    def transfers(self) -> list[Transfer]:
        """The pieces that have not left, in the order of the requests."""
        return list(self._turns)

    def add(self, transfer: Transfer) -> None:
        """Add a piece that a child requests."""
        turn = self._order.enter(transfer.number, transfer.until)
        self._turns[transfer], self._transfers[turn] = turn, transfer
        self._order.wait(turn)
        self._serve()

    def remove(self, transfer: Transfer) -> None:
        """Remove a piece that its child does not want any more."""
        turn = self._turns.pop(transfer, None)
        if turn is not None:
            del self._transfers[turn]
            self._order.leave(turn, is_whole=False)

    def _serve(self) -> None:
        """Send the next step, when the one before has left."""
        if self._is_busy or (turn := self._order.next()) is None:
            return
        self._is_busy = True
        length = min(turn.left, max(1, int(self._rate / STEPS_PER_SECOND)))
        self._later(length / self._rate, partial(self._sent, turn, length))

    def _sent(self, turn: Turn, length: int) -> None:
        """Count a step that was sent; that of a piece which is not wanted any more is lost."""
        self._is_busy = False
        transfer = self._transfers.get(turn)
        if transfer is not None:
            turn.left -= length
            transfer.sent += length
            if turn.left:
                self._order.wait(turn)
            else:
                del self._turns[transfer], self._transfers[turn]
                self._order.leave(turn, is_whole=True)
                self._on_end(transfer)
        self._serve()
