"""
Decisions by time: which requests are slow, how many pieces a parent is asked for at once, and when a parent that failed
is asked again. No I/O, clock or reactor: the time is an argument.

A request is slow if no byte of it has arrived for a few seconds, or if what is left of it, and of those before it,
would take far longer at its parent's rate than another parent takes for a whole piece. The rate is that of all pieces
that come from the parent, because it may send one after the other. A parent is slow while all requests that it has are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from msgspec import Struct

from dragonfly_vortex.task.parent_state import Parent

__all__ = ["SILENCE", "TICK", "Request", "RunningTime", "Timing", "backoff"]

SILENCE = 3.0
"""Seconds without a byte after which a request is slow."""

TICK = 0.5
"""Seconds between two looks at how far the requests are."""

_FAR_LONGER = 4.0
"""How many times as long as another parent takes for a piece a request may take before it is slow."""

_LOOK_INTERVAL = 0.25
"""Seconds between two looks at the requests."""

_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 8.0


def backoff(failures: int, jitter: float) -> float:
    """
    The pause after a failure, in seconds: it doubles up to 8 s, and is shortened at random by up to a half.

    :param failures: how often it was left alone before.
    :param jitter: from 0 to 1, at random, so that the children of a parent do not all come back at the same moment.
    :returns: seconds.
    """
    longest = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(failures, 16))
    return longest * (0.5 + 0.5 * jitter)


class RunningTime:
    """
    A time that stands still while this process does not run, or is too busy to read: no parent is slow because of that.

    :param now: the time by the clock, in seconds.
    :param longest_tick: seconds between two ticks at the most, while this process keeps up with its parents.
    """

    def __init__(self, now: float, longest_tick: float) -> None:
        self._ticked_at = now
        self._longest_tick = longest_tick
        self._lost = 0.0

    def tick(self, now: float) -> None:
        """Record that this process runs. To be called more often than ``longest_tick``."""
        self._lost += max(0.0, now - self._ticked_at - self._longest_tick)
        self._ticked_at = now

    def at(self, now: float) -> float:
        """The running time, in seconds, at a time of the clock."""
        return min(now, self._ticked_at + self._longest_tick) - self._lost


class Request(Struct, frozen=True, kw_only=True, eq=False):
    """
    One piece, asked of one parent. Two requests are never equal.

    :param parent: the parent's address, ``HOST:PORT``.
    :param number: the piece's number.
    :param round: the parent's round, see :mod:`~dragonfly_vortex.task.parent_state`.
    :param is_spare: whether another request for the piece is under way, so that this one needs a place of its own: that
        one may be writing to the piece's place, or be about to.
    :param is_comparison: whether only the digest of the piece is asked for, because the piece is there: it is not to be
        claimed, and the piece is refused when the parent has named its digest.
    :param announced_length: bytes that the parent itself has said the piece has, at the most; None where it has not.
    """

    parent: str
    number: int
    round: int
    is_spare: bool = False
    is_comparison: bool = False
    announced_length: int | None = None


class _Course(Struct, kw_only=True, eq=False):
    """
    What is known of a request's progress.

    :param asked_at: when it was made.
    :param progressed_at: when something of it came last, or else when it was made.
    :param received: bytes that have arrived.
    :param length: bytes of the piece; None before the parent has said it.
    :param is_heard: whether the parent has said that the piece comes. Its content may still wait at the parent.
    :param waited_until: when no content had arrived yet, as far as that was seen.
    :param parent_had_sent: bytes that the parent had sent by then, of all pieces.
    """

    asked_at: float
    progressed_at: float
    received: int = 0
    length: int | None = None
    is_heard: bool = False
    waited_until: float = 0.0
    parent_had_sent: int = 0
    is_slow: bool = False


class Timing:
    """
    The times of a download.

    :param parents: the parents that can be asked, by address.
    :param limit: how many requests may be under way at once.
    :param late_after: seconds after which a piece is late.
    :param jitter: gives a random number from 0 to 1.
    """

    def __init__(
        self, parents: Mapping[str, Parent], *, limit: int, late_after: float, jitter: Callable[[], float]
    ) -> None:
        self.now = 0.0
        """Seconds since any moment in the past."""
        self.progressed_at: float | None = None
        """When anything came last; before that, when the download began."""
        self.look_at = 0.0
        """When something may have to be done because of the time: requests may be slow then, or a pause be over."""
        self._parents = parents
        self._limit = limit
        self._late_after = late_after
        self._jitter = jitter
        self._courses: dict[Request, _Course] = {}  # of all requests under way
        self._slow_count = 0

    # -- requests ------------------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many requests are under way."""
        return len(self._courses)

    @property
    def slow_count(self) -> int:
        """How many of them are slow."""
        return self._slow_count

    def is_slow(self, request: Request) -> bool:
        """Whether a request is slow."""
        return self._courses[request].is_slow

    def silence(self, parent: Parent) -> float:
        """Seconds since a parent said anything, or since the last of its requests was made."""
        courses = [course for request, course in self._courses.items() if request.parent == parent.address]
        return self.now - max(max((course.progressed_at for course in courses), default=self.now), parent.heard_at)

    def begin(self, request: Request) -> None:
        """Add a request that was made."""
        course = self._courses[request] = _Course(asked_at=self.now, progressed_at=self.now)
        self._wait(request, course)

    def end(self, request: Request) -> float:
        """Remove a request that has ended. Seconds since it was made."""
        course = self._courses.pop(request)
        if course.is_slow:
            self._set_slow(request, course, False)
        return self.now - course.asked_at

    def hear(self, request: Request) -> None:
        """Record that the parent has promised the piece. The shortest time for that is its round trip."""
        course, parent = self._courses[request], self._parents[request.parent]
        if not course.is_heard:
            course.is_heard = True
            if not course.received:
                self._wait(request, course)
            seconds = self.now - course.asked_at
            if parent.round_trip is None or seconds < parent.round_trip:
                parent.round_trip = seconds

    def has_begun(self, request: Request) -> bool:
        """Whether content of the piece has arrived."""
        return self._courses[request].received > 0

    def left(self, request: Request) -> float:
        """
        Seconds that a request is expected to take from now on: by its bytes so far, or else by what its parent took
        for others. For what takes longer than that, as long as it has taken.
        """
        course = self._courses[request]
        if course.received:
            return (self.now - course.waited_until) * ((course.length or 0) - course.received) / course.received
        age, seconds = self.now - course.asked_at, self._parents[request.parent].seconds
        return age if seconds is None or age > seconds else seconds - age

    def expected(self, parent: Parent) -> float:
        """Seconds that an idle parent is expected to take for a piece: before it has given one, as long as others."""
        if parent.seconds is not None:
            return parent.seconds
        known = [other.seconds for other in self._parents.values() if other.seconds is not None]
        return sum(known) / len(known) if known else float("inf")

    def progress(self, request: Request, received: int, length: int) -> None:
        """
        Record how much of a piece has arrived.

        :param received: bytes.
        :param length: bytes of the whole piece.
        """
        course, parent = self._courses[request], self._parents[request.parent]
        course.length = length
        if not received:
            self._wait(request, course)
        if received != course.received:
            parent.received += max(0, received - course.received)
            course.received = received
            course.progressed_at = self.progressed_at = parent.heard_at = self.now
            self.look_at = min(self.look_at, self.now)

    def look_again_at(self, moment: float) -> None:
        """Have what time changes looked at again at a moment, if not before."""
        self.look_at = min(self.look_at, moment)

    def look(self) -> None:
        """Find the requests that are slow by now, and the next moment to look."""
        self.look_at = self.now + _LOOK_INTERVAL
        for parent in self._parents.values():
            if parent.paused_until is not None and self.now >= parent.paused_until:
                parent.paused_until = None
            for moment in (parent.retry_at, parent.look_again_at):
                if moment is not None and moment > self.now:
                    self.look_again_at(moment)
        rest: Counter[str] = Counter()  # bytes that are to come from each parent until a piece is there
        for request, course in self._courses.items():
            rest[request.parent] += (course.length or 0) - course.received
            is_slow = self._is_silent(request, course) or self._is_far_behind(request, course, rest[request.parent])
            self._set_slow(request, course, is_slow)

    def _wait(self, request: Request, course: _Course) -> None:
        """Look at a request of whose piece no content has arrived."""
        course.waited_until, course.parent_had_sent = self.now, self._parents[request.parent].received

    def _is_silent(self, request: Request, course: _Course) -> bool:
        """
        Whether no byte has arrived for too long. A parent that takes long for each piece may take long to begin, and
        one that answers other requests, or has said that the piece comes, may have this one in a queue.
        """
        parent = self._parents[request.parent]
        silence = self.now - course.progressed_at
        patience = SILENCE
        if not course.received and parent.seconds is not None:
            patience = max(SILENCE, _FAR_LONGER * parent.seconds)
        if (course.is_heard and not course.received) or self.now - parent.heard_at < SILENCE:
            patience *= _FAR_LONGER
        return silence >= patience

    def _is_far_behind(self, request: Request, course: _Course, rest: int) -> bool:
        """
        Whether a piece would take far longer than another parent takes for a whole one.

        :param rest: bytes that are to come from the parent until the piece is there.
        """
        age = self.now - course.waited_until
        if age < SILENCE or not course.received:
            return False
        others = [
            other
            for other in self._parents.values()
            if other.address != request.parent and other.is_alive and not other.is_slow and not other.is_source
        ]
        if not others:
            return False
        known = [other.seconds for other in others if other.seconds is not None]
        seconds = age * rest / (self._parents[request.parent].received - course.parent_had_sent)
        return seconds > max(SILENCE, _FAR_LONGER * min(known, default=age))

    def _set_slow(self, request: Request, course: _Course, is_slow: bool) -> None:
        """Mark a request, and its parent, as slow or not."""
        if is_slow != course.is_slow:
            change = is_slow - course.is_slow
            self._parents[request.parent].slow += change
            self._slow_count += change
            course.is_slow = is_slow

    def hold_back(self) -> None:
        """Pause all requests, because this side is behind; meanwhile no parent counts as slow."""
        self.progressed_at = self.now

    # -- answers -------------------------------------------------------------------------------------------------------

    def came(self, parent: Parent, length: int, seconds: float) -> None:
        """
        Record a piece that has arrived. A parent whose pieces are late gets fewer at once, and one more for each that
        is early.

        :param length: bytes of the piece.
        :param seconds: from the request to the end of the piece, without the time that this side's limit took.
        """
        self.progressed_at = self.now
        parent.give(self.now, length, seconds)
        if seconds > self._late_after:
            parent.narrow(self.now, seconds)
        elif parent.most is not None and seconds < self._late_after / 4:
            parent.widen(self._limit)

    def overtaken(self, request: Request) -> None:
        """Record that another parent gave the piece first. If this one was slow, its parent is left alone a while."""
        parent = self._parents[request.parent]
        if self.is_slow(request):
            parent.pause(self.now, self.backoff(parent.backoffs))

    def backoff(self, failures: int) -> float:
        """The pause after a failure, in seconds, see :func:`backoff`."""
        return backoff(failures, self._jitter())
