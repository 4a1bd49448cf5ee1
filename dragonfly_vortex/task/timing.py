"""
What time tells of requests and parents: which requests are slow, how many pieces a parent is asked for at once, and
when a parent that failed is asked again. No I/O here, no clock and no reactor: the time is an argument.

A request is slow if nothing of it has come for a few seconds, or if what is left of it would take far longer than
another parent takes for a whole piece. A parent is slow while all requests that it has are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dragonfly_vortex.task.parent_state import Parent
from dragonfly_vortex.task.picker import Request

__all__ = ["SILENCE", "Timing", "backoff"]

SILENCE = 3.0
"""Seconds without a byte after which a request is slow."""

_FAR_LONGER = 4.0
"""How many times as long as another parent takes for a piece a request may take before it is slow."""

_LOOK_INTERVAL = 0.25
"""Seconds between two looks at the requests."""

_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 8.0

_NEWEST = 0.3
"""The weight of the newest piece in the seconds that a parent takes for one."""


def backoff(failures: int, jitter: float) -> float:
    """
    How long a parent is left alone: twice as long each time, up to 8 s, less up to a half of it.

    :param failures: how often it was left alone before.
    :param jitter: from 0 to 1, at random, so that the children of a parent do not all come back at the same moment.
    :returns: seconds.
    """
    longest = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(failures, 16))
    return longest * (0.5 + 0.5 * jitter)


@dataclass(slots=True, kw_only=True, eq=False)
class _Course:
    """
    What is known of a request's progress.

    :param asked_at: when it was made.
    :param progressed_at: when something of it came last, or else when it was made.
    :param received: bytes that have come.
    :param length: bytes of the piece; None before the parent has said it.
    """

    asked_at: float
    progressed_at: float
    received: int = 0
    length: int | None = None
    is_slow: bool = False


class Timing:
    """
    The times of a download.

    :param parents: those who can be asked, by address.
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
        self._parents = parents
        self._limit = limit
        self._late_after = late_after
        self._jitter = jitter
        self._courses: dict[Request, _Course] = {}
        self._look_at = 0.0

    # -- requests ------------------------------------------------------------------------------------------------------

    @property
    def slow_count(self) -> int:
        """How many requests under way are slow."""
        return sum(parent.slow for parent in self._parents.values())

    def is_slow(self, request: Request) -> bool:
        """Whether a request is slow."""
        return self._courses[request].is_slow

    def silence(self, parent: Parent) -> float:
        """Seconds since a parent said anything, or since the last of its requests was made."""
        courses = [course for request, course in self._courses.items() if request.parent == parent.address]
        return self.now - max(max((course.progressed_at for course in courses), default=self.now), parent.heard_at)

    def begin(self, request: Request) -> None:
        """A request has been made."""
        self._courses[request] = _Course(asked_at=self.now, progressed_at=self.now)

    def age(self, request: Request) -> float:
        """Seconds since a request was made."""
        return self.now - self._courses[request].asked_at

    def end(self, request: Request) -> None:
        """A request is under way no more."""
        self._set_slow(request, self._courses.pop(request), False)

    def progress(self, request: Request, received: int, length: int) -> None:
        """
        Tell how much of a piece has come.

        :param received: bytes.
        :param length: bytes of the whole piece.
        """
        course = self._courses[request]
        course.length = length
        if received != course.received:
            course.received = received
            course.progressed_at = self.progressed_at = self._parents[request.parent].heard_at = self.now
            self._look_at = min(self._look_at, self.now)

    def look(self) -> bool:
        """See which requests are slow by now; tells whether it was time for that."""
        if self.now < self._look_at:
            return False
        self._look_at = self.now + _LOOK_INTERVAL
        for parent in self._parents.values():
            if parent.paused_until is not None and self.now >= parent.paused_until:
                parent.paused_until = None
        for request, course in self._courses.items():
            self._set_slow(request, course, self._is_silent(request, course) or self._is_far_behind(request, course))
        return True

    def _is_silent(self, request: Request, course: _Course) -> bool:
        """
        Whether nothing has come for too long. A parent that takes long for each piece may take long to begin, and one
        that answers other requests may have this one in a queue.
        """
        parent = self._parents[request.parent]
        silence = self.now - course.progressed_at
        patience = SILENCE
        if not course.received and parent.seconds is not None:
            patience = max(SILENCE, _FAR_LONGER * parent.seconds)
        if not course.received and self.now - parent.heard_at < SILENCE:
            patience *= _FAR_LONGER
        return silence >= patience

    def _is_far_behind(self, request: Request, course: _Course) -> bool:
        """Whether the rest of a piece would take far longer than another parent takes for a whole one."""
        age = self.now - course.asked_at
        if age < SILENCE or course.length is None or not course.received:
            return False
        others = [
            other
            for other in self._parents.values()
            if other.address != request.parent and other.is_alive and not other.is_slow
        ]
        if not others:
            return False
        known = [other.seconds for other in others if other.seconds is not None]
        left = age * (course.length - course.received) / course.received
        return left > max(SILENCE, _FAR_LONGER * min(known, default=age))

    def _set_slow(self, request: Request, course: _Course, is_slow: bool) -> None:
        """Note whether a request is slow, at its parent as well."""
        self._parents[request.parent].slow += is_slow - course.is_slow
        course.is_slow = is_slow

    # -- parents -------------------------------------------------------------------------------------------------------

    def came(self, parent: Parent, seconds: float) -> None:
        """
        A piece has come. A parent whose pieces come late has fewer at once, and one more for each that comes early.

        :param seconds: from the request to the end of the piece, without the time that this side's limit took.
        """
        self.progressed_at = parent.heard_at = self.now
        parent.paused_until = None
        parent.looks = 0
        if not parent.failures:
            parent.backoffs = 0
        parent.seconds = seconds if parent.seconds is None else parent.seconds + _NEWEST * (seconds - parent.seconds)
        if seconds > self._late_after:
            self.narrow(parent, seconds)
        elif parent.most is not None and seconds < self._late_after / 4:
            parent.most = parent.most + 1 if parent.most + 1 < self._limit else None

    def narrow(self, parent: Parent, seconds: float) -> bool:
        """
        A piece is late: its parent is asked for half as many at once. Those that were under way together are late
        together, and count once.

        :param seconds: since it was asked for.
        :returns: whether it may have come too late because of others.
        """
        if parent.narrowed_at is not None and self.now - seconds < parent.narrowed_at:
            return True
        at_once = parent.under_way + 1
        if at_once == 1:
            return False
        parent.most = max(1, at_once // 2)
        parent.narrowed_at = self.now
        return True

    def overtaken(self, request: Request) -> None:
        """
        Another parent has given the piece first. If this request was slow, its parent is left alone for a while, and
        is asked for one piece at a time then.
        """
        if self.is_slow(request):
            parent = self._parents[request.parent]
            parent.most = 1
            parent.paused_until = self.now + backoff(parent.backoffs, self._jitter())
            parent.backoffs += 1

    def back_off(self, parent: Parent) -> None:
        """A parent has failed: it is asked again after a pause."""
        if parent.retry_at is None:
            parent.retry_at = self.now + backoff(parent.backoffs, self._jitter())
            parent.backoffs += 1

    def look_again(self, parent: Parent) -> None:
        """A parent does not have something: it is asked again after a pause."""
        if parent.look_again_at is None:
            parent.look_again_at = self.now + backoff(parent.looks, self._jitter())
            parent.looks += 1
