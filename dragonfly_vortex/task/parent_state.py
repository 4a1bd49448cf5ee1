"""
The state of one parent in a download: its reputation, and which pieces it has. No I/O, clock or reactor.

The life of a parent::

    GOOD --a request fails--> DOUBTED --the next one fails too--> OUT
      ^                        |   ^                               |
      +------ any answer ------+   +--------- after a pause -------+

A time-out puts it OUT, a lie makes it LIED, from anywhere.

In doubt it is asked for one piece at a time. Requests that were under way together fail together: each belongs to a
round, a failure ends the round, and the failures of earlier rounds say nothing new. Where the download retries, a
parent that is OUT rests: it is in doubt again after a pause.

A parent that announces its pieces is asked for what it has announced and for nothing else; any other may be asked for
anything, and says itself what it does not have.
"""

from __future__ import annotations

import enum
from collections import Counter

from msgspec import Struct, field

__all__ = ["STORAGE", "Parent", "Standing"]

STORAGE = ""
"""The name of the storage among those that have pieces. No parent has this name, and nothing is asked of it."""

_TRIES = 2
"""How often a parent may fail to give a piece: it is asked once more, and then not for that piece again."""

_NEWEST = 0.3
"""The weight of the newest piece in an average of late."""


class Standing(enum.Enum):
    """The reputation of a parent."""

    GOOD = "good"
    DOUBTED = "doubted"
    OUT = "out"
    LIED = "lied"


class Parent(Struct, kw_only=True, eq=False):
    """
    One parent in a download. Each method that changes it stands for an act of the parent, or for a decision about it.

    :param asked: how many requests it has had.
    :param under_way: how many of them have no answer yet.
    :param lacks: numbers of the pieces that it said it does not have.
    :param failures: how often it failed to give a piece, by number.
    :param accusers: the parents that vouch for what its lie contradicts; None where it is a lie whatever others say.
    :param acquitted: whether its word has stood against that of liars alone before.
    :param lie: what it said that cannot be true, with what was expected; empty where there is nothing.
    :param is_caught: whether that is a lie whatever others say.
    :param failure: why its last request failed, with what was expected; empty where none has failed.
    :param is_removed: whether it is not named as a parent any more: it is asked for nothing more.
    :param has_announcer: whether it can be asked what it has.
    :param is_open: whether it may be asked for what it has not announced.
    :param is_announcing: whether it may announce more.
    :param announced: offset and length of the pieces that it has announced, by number.
    :param was_whole: whether it had announced all of the task when less than half of it was here: it has not fetched
        the task at the same time from others, which may lie.
    :param told_content_length: what it says that the task's length is, in bytes.
    :param told_piece_length: what it says that the piece length is, in bytes.
    :param last: the highest number of the verified pieces that it has sent; -1 where there is none.
    :param slow: how many of its requests are slow, see :mod:`~dragonfly_vortex.task.timing`.
    :param seconds: how long it takes for a piece, on the average of late; None before it has given one.
    :param rate: bytes per second that it gives, on the average of late; None before it has given a piece.
    :param round_trip: the fewest seconds from a request to the beginning of its piece; None before one has begun.
    :param received: bytes of content that it has sent, of all pieces.
    :param heard_at: when it said anything last, whatever it was.
    :param most: how many pieces it may be asked for at once; None where that is limited for all together only.
    :param narrowed_at: when that was lessened last.
    :param retry_at: when it is asked again for what it has failed to give; None where it has not failed, or where
        nothing is tried again.
    :param backoffs: how often it has been left alone since it last gave what it was asked for.
    :param paused_until: until when it is asked for nothing, because another parent gave what it owed.
    :param look_again_at: when it is asked again for what it did not have; None where it has all, or where nothing is
        tried again.
    :param looks: how often that was put off since it last gave or announced anything.
    :param is_awaited: whether the source waits for what it may announce, see
        :mod:`~dragonfly_vortex.task.source_choice`.
    :param is_source: whether it is the source, which has everything and is asked last, see
        :mod:`~dragonfly_vortex.task.source_choice`.
    """

    address: str
    standing: Standing = Standing.GOOD
    round: int = 0
    asked: int = 0
    under_way: int = 0
    lacks: set[int] = field(default_factory=set)
    failures: Counter[int] = field(default_factory=Counter)
    accusers: set[str] | None = None
    acquitted: bool = False
    lie: str = ""
    is_caught: bool = False
    failure: str = ""
    is_removed: bool = False
    has_announcer: bool = False
    is_open: bool = True
    is_announcing: bool = False
    announced: dict[int, tuple[int, int]] = field(default_factory=dict)
    was_whole: bool = False
    told_content_length: int | None = None
    told_piece_length: int | None = None
    last: int = -1
    slow: int = 0
    seconds: float | None = None
    rate: float | None = None
    round_trip: float | None = None
    received: int = 0
    heard_at: float = float("-inf")
    most: int | None = None
    narrowed_at: float | None = None
    retry_at: float | None = None
    backoffs: int = 0
    paused_until: float | None = None
    look_again_at: float | None = None
    looks: int = 0
    is_awaited: bool = True
    is_source: bool = False

    # -- what it may be asked for --------------------------------------------------------------------------------------

    @property
    def is_alive(self) -> bool:
        """Whether this parent may be asked for pieces at all."""
        return not self.is_removed and (self.standing is Standing.GOOD or self.standing is Standing.DOUBTED)

    @property
    def is_honest(self) -> bool:
        """Whether it is not known to have lied."""
        return self.standing is not Standing.LIED

    @property
    def is_slow(self) -> bool:
        """Whether it has requests, and all of them are slow."""
        return 0 < self.under_way <= self.slow

    @property
    def is_left_alone(self) -> bool:
        """Whether it is asked for nothing more now, because it is slow or was."""
        return self.is_slow or self.paused_until is not None

    @property
    def has_room(self) -> bool:
        """Whether it may be asked for one piece more."""
        return self.most is None or self.under_way < self.most

    def may_have(self, number: int) -> bool:
        """Whether it is worth asking for a piece now."""
        return (self.is_open or number in self.announced) and number not in self.lacks and self._is_tried(number)

    def may_come_to_have(self, number: int) -> bool:
        """Whether it is worth asking for a piece, or may become so by an announcement."""
        return self.may_have(number) or (self.is_announcing and self._is_tried(number))

    def may_recover(self, number: int) -> bool:
        """
        Whether it is worth asking for a piece when it has rested, or when it has said again what it has. The "not
        found" of a parent that cannot say what it has is not waited for.
        """
        if not self.is_honest or self.is_removed:
            return False
        if self.look_again_at is not None and self.has_announcer:
            return True
        if self.retry_at is None:
            return False
        return self.is_announcing or ((self.is_open or number in self.announced) and number not in self.lacks)

    def denies(self, number: int) -> bool:
        """Whether it has announced all that it has, and not this piece."""
        if self.is_open or self.is_announcing or number in self.announced:
            return False
        return self.is_honest and not self.is_removed

    def has_failed_at(self, number: int) -> bool:
        """Whether it has failed to give a piece so often that it is not asked for it again."""
        return self.failures[number] >= _TRIES

    def _is_tried(self, number: int) -> bool:
        """Whether it is asked at all, and has not failed to give this piece."""
        return self.is_alive and not (self.failures and self.has_failed_at(number))

    # -- what it gives and does not give -------------------------------------------------------------------------------

    def answer(self) -> None:
        """Record a correct answer."""
        if self.standing is Standing.DOUBTED:
            self.standing = Standing.GOOD

    def give(self, now: float, length: int, seconds: float) -> None:
        """
        Record a piece from this parent.

        :param length: bytes of it.
        :param seconds: from the request to the end of the piece, without the time that this side's limit took.
        """
        if self.standing is Standing.DOUBTED:
            self.answer()
        self.heard_at = now
        self.paused_until = None
        self.looks = 0
        if not self.failures:
            self.backoffs = 0
        self.seconds = _newest(self.seconds, seconds)
        if seconds > 0:
            self.rate = _newest(self.rate, (self.under_way + 1) * length / seconds)

    def fail(self, number: int, failed_round: int) -> None:
        """
        Record that a piece did not come from this parent.

        :param failed_round: its round when it was asked.
        """
        self.failures[number] += 1
        if failed_round == self.round:
            self.round += 1
            if self.standing is Standing.GOOD:
                self.standing = Standing.DOUBTED
            elif self.standing is Standing.DOUBTED:
                self.standing = Standing.OUT

    def give_up(self) -> None:
        """Give this parent up, because it does not answer."""
        self.standing = Standing.OUT

    def refuse(self) -> None:
        """Give this parent up for good, because no connection to it can succeed."""
        self.give_up()
        self.wait_no_longer()

    def rest(self, now: float, backoff: float, least: float = 0.0) -> None:
        """
        Let this parent rest after a failure; it is asked again after a pause.

        :param backoff: seconds of the pause, where it does not rest yet.
        :param least: seconds of the pause at least, because it asks for so many.
        """
        if self.retry_at is None:
            self.retry_at = now + max(least, backoff)
            self.backoffs += 1
        elif least:
            self.retry_at = max(self.retry_at, now + least)

    def recover(self) -> None:
        """End the rest of this parent: it is in doubt, and may be asked again for the pieces that it failed to give."""
        self.retry_at = None
        self.failures.clear()
        if self.standing is Standing.OUT:
            self.standing = Standing.DOUBTED
            self.round += 1

    # -- how it takes its time -----------------------------------------------------------------------------------------

    def pause(self, now: float, backoff: float) -> None:
        """Leave this parent alone for a while, then ask for one piece at a time: another one gave the owed piece."""
        self.most = 1
        self.paused_until = now + backoff
        self.backoffs += 1

    def narrow(self, now: float, seconds: float) -> bool:
        """
        Record that a piece is late: it is asked for half as many at once. Those that were under way together are late
        together, and count once.

        :param seconds: since the piece was asked for.
        :returns: whether it may be late because of others.
        """
        if self.narrowed_at is not None and now - seconds < self.narrowed_at:
            return True
        at_once = self.under_way + 1
        if at_once == 1:
            return False
        self.most = max(1, at_once // 2)
        self.narrowed_at = now
        return True

    def widen(self, limit: int) -> None:
        """
        Record that a piece is early: it is asked for one more at once.

        :param limit: how many are asked of all parents at once.
        """
        if self.most is not None:
            self.most = self.most + 1 if self.most + 1 < limit else None

    # -- what it says that it has --------------------------------------------------------------------------------------

    def begin_announcing(self) -> None:
        """Ask this parent from now on only for pieces that it has announced."""
        self.has_announcer = self.is_announcing = True
        self.is_open = False

    def announce(self, number: int, offset: int, length: int) -> None:
        """Record a piece that this parent announces for the first time."""
        self.announced[number] = offset, length
        self.lacks.discard(number)
        self.looks = 0
        self.is_open = self.is_open and not self.is_announcing

    def end_announcing(self, *, is_open: bool) -> None:
        """
        Record the end of this parent's announcements.

        :param is_open: whether it may be asked for anything.
        """
        self.is_announcing = False
        self.is_open = is_open

    def put_off(self, now: float, backoff: float) -> None:
        """Have this parent asked again after a pause for what it lacks."""
        if self.look_again_at is None:
            self.look_again_at = now + backoff
            self.looks += 1

    def look_again(self) -> bool:
        """Ask this parent again for what it lacked. Returns whether it is to be asked first which pieces it has."""
        self.look_again_at = None
        self.lacks.clear()
        is_inquiry = self.has_announcer and not self.is_announcing
        self.is_announcing = self.is_announcing or is_inquiry
        return is_inquiry

    def wait_no_longer(self) -> None:
        """End the wait for a pause or an announcement of this parent."""
        self.retry_at = self.look_again_at = None
        self.is_announcing = False

    # -- whether it is named as a parent -------------------------------------------------------------------------------

    def remove(self) -> None:
        """Remove this parent from the download. The pieces that it said it lacks do not count."""
        self.is_removed = True
        self.lacks.clear()
        self.wait_no_longer()

    def name_again(self, *, is_awaited: bool = True) -> None:
        """
        Add this parent again: it is asked again, even where it was given up, unless it has lied.

        :param is_awaited: whether the source waits for what it may announce. What is awaited stays awaited.
        """
        self.is_awaited = is_awaited or (self.is_awaited and not self.is_removed)
        self.is_removed = False
        self.recover()

    # -- whether it is believed ----------------------------------------------------------------------------------------

    def lie_about(self, lie: str, accusers: set[str] | None) -> None:
        """
        Record a lie of this parent. Accused once more after it was acquitted, it is not acquitted again.

        :param lie: what was expected and what came.
        :param accusers: the parents that vouch for what it contradicts; None where it is a lie whatever others say.
        """
        self.lie = lie
        self.is_caught = self.is_caught or accusers is None
        self.accusers = accusers if self.is_alive and not self.acquitted else None
        self.standing = Standing.LIED
        self.lacks.clear()

    def catch(self, lie: str) -> None:
        """
        Record that this parent sent all of a task that is wrong as a whole. What it lacks still says where that task
        ended.

        :param lie: what it has sent.
        """
        self.lie = lie
        self.is_caught = True
        self.standing = Standing.LIED

    def lose_accuser(self, liar: str) -> bool:
        """
        Record that one of the parents that vouch for what this one contradicts has lied. With none left, it is believed
        again.

        :returns: whether that is so.
        """
        if self.standing is not Standing.LIED or self.accusers is None:
            return False
        self.accusers.discard(liar)
        if self.accusers:
            return False
        self.standing = Standing.GOOD
        self.round += 1
        self.acquitted = True
        return True


def _newest(average: float | None, value: float) -> float:
    """An average of late, with one value more."""
    return value if average is None else average + _NEWEST * (value - average)
