"""The lines of :mod:`benchmarks.speed`, what is asked of each, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.benchmark import Report
from benchmarks.text import length, spread, table

__all__ = ["COMMANDS", "EARLIER", "FILES", "LINES", "PIECE", "REQUEST", "THIS", "Cost", "Line", "Sample", "draw"]

THIS, EARLIER = "this", "earlier"

REQUEST, PIECE = "request", "piece"
"""A request of 4 KiB at a parent, and a piece of 4 KiB of a download."""

COMMANDS = ("stat", "list", "import")
"""Commands on a storage, whose start is measured; ``import`` is of 1 MB."""

FILES = (
    *("tcp", "grpc", "tls", "tcp-pieces", "tls-pieces", "tls-loop", "sha256"),
    *("curl", "aria2", "s5cmd", "libtorrent", "iperf3"),
    *("plain-from-ours", "plain-from-nginx", "plain-reference"),
)
"""The contestants that fetch a file."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """
    What a turn has cost.

    :param seconds: how long it took.
    :param processor: seconds of processor time, of a child or a command.
    :param parent: seconds of a parent's processor time.
    :param length: bytes of the file, where one is fetched.
    """

    seconds: float
    processor: float
    parent: float = 0.0
    length: int = 0


@dataclass(frozen=True, kw_only=True)
class Sample(Cost):
    """
    A turn.

    :param round: its round, from 0.
    :param what: what was measured: a contestant, a command, or a part of one.
    :param version: of which version, or for a contestant ``file`` or ``start-up``.
    :param load: the machine's load average, of a minute.
    """

    round: int
    what: str
    version: str
    load: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """
    A ratio, and what is asked of it.

    :param title: what is compared.
    :param by: ``seconds``, ``processor`` or ``parent``.
    :param ours: what costs, and its version.
    :param other: what it is compared with; None where the time itself is asked for.
    :param at_most: how many times as much ours may cost; None where rates are compared.
    :param at_least: how many times as fast ours must be; None where costs are compared.
    """

    title: str
    by: str
    ours: tuple[str, str]
    other: tuple[str, str] | None
    at_most: float | None = None
    at_least: float | None = None

    def ratio(self, ours: float, other: float) -> float:
        """The ratio of two costs."""
        over, under = (ours, other) if self.at_most is not None else (other, ours)
        return over / under if under > 0 else float("inf")

    def is_reached(self, ratio: float) -> bool:
        """Whether a ratio is what is asked for."""
        return ratio <= self.at_most if self.at_most is not None else ratio >= (self.at_least or 0.0)


def _file(
    title: str, by: str, ours: str, other: str, *, at_most: float | None = None, at_least: float | None = None
) -> Line:
    """A line about two contestants."""
    return Line(title=title, by=by, ours=(ours, "file"), other=(other, "file"), at_most=at_most, at_least=at_least)


LINES = (
    _file("whole command under TLS : plain", "seconds", "tls", "tcp", at_least=0.75),
    _file("pieces under TLS : a loop over pyOpenSSL", "seconds", "tls-pieces", "tls-loop", at_least=0.7),
    _file("a parent's processor time under TLS : that loop's sender", "parent", "tls-pieces", "tls-loop", at_most=1.15),
    _file("time of the whole command : SHA-256 of the file alone", "seconds", "tcp", "sha256", at_most=1.15),
    _file("whole command, TCP : gRPC", "seconds", "tcp", "grpc", at_least=2.5),
    Line(
        title="`dfvortex download` of 1 MB : `from twisted.internet import reactor`",
        by="seconds",
        ours=("download", THIS),
        other=("reactor", ""),
        at_most=1.35,
    ),
    *(
        Line(
            title=f"`dfvortex {command}` : the earlier version",
            by="processor",
            ours=(command, THIS),
            other=(command, EARLIER),
            at_most=0.5,
        )
        for command in COMMANDS
    ),
    Line(
        title="a parent's processor time for a request of 4 KiB, on 8 connections : the earlier version",
        by="parent",
        ours=(REQUEST, THIS),
        other=(REQUEST, EARLIER),
        at_most=0.55,
    ),
    Line(
        title="a child's processor time for a piece of 4 KiB : the earlier version",
        by="processor",
        ours=(PIECE, THIS),
        other=(PIECE, EARLIER),
        at_most=0.5,
    ),
    Line(
        title="requests of 4 KiB beside 200 commits a second : beside none",
        by="seconds",
        ours=("commits", THIS),
        other=(REQUEST, THIS),
        at_least=0.8,
    ),
    _file("a parent's processor time, plain : nginx", "parent", "plain-from-ours", "plain-from-nginx", at_most=1.2),
    _file("pieces : the reference from itself, plain writes", "seconds", "tcp-pieces", "plain-reference", at_least=1.0),
    Line(
        title="seconds to connect where the first of two addresses refuses",
        by="seconds",
        ours=("two addresses", THIS),
        other=None,
        at_most=0.02,
    ),
)
"""What was to be reached."""


def draw(report: Report[Sample]) -> str:
    """The lines. The report has each contestant's figures."""
    samples = report.samples
    loads = [each.load for each in samples]
    origin = (
        f"{report.origin}; {max(each.round for each in samples) + 1} rounds, a file of"
        f" {length(max(each.length for each in samples))}, a load of {min(loads):.1f} to {max(loads):.1f}"
    )
    head = ["", "asked", "best by best", "median of the rounds", "ours, the other: best"]
    return "\n\n".join([f"{origin}; start-up is taken off", table(head, [_row(line, samples) for line in LINES])])


def _row(line: Line, samples: Sequence[Sample]) -> list[str]:
    """A line of the table."""
    asked = f"at most {line.at_most:g}" if line.at_most is not None else f"at least {line.at_least:g}"
    ours = _taken(samples, line.ours, line.by)
    other = dict.fromkeys(ours, 1.0) if line.other is None else _taken(samples, line.other, line.by)
    both = sorted(ours.keys() & other.keys())
    if not both:
        return [line.title, asked, "not measured", "?", ""]
    best = line.ratio(min(ours.values()), min(other.values()))
    of_rounds = spread([line.ratio(ours[each], other[each]) for each in both])
    shown = [min(ours.values()), *([] if line.other is None else [min(other.values())])]
    return [
        line.title,
        asked,
        _ratio(best) if line.is_reached(best) else f"**{_ratio(best)}**",
        f"{_ratio(of_rounds.median)} ({_ratio(of_rounds.minimum)}-{_ratio(of_rounds.maximum)})",
        ", ".join(map(_time, shown)),
    ]


def _taken(samples: Sequence[Sample], of: tuple[str, str], by: str) -> dict[int, float]:
    """What was seen in each round, less the least start-up where a file is fetched."""
    what, version = of
    idle = [getattr(each, by) for each in samples if (each.what, each.version) == (what, "start-up")]
    start_up = min(idle, default=0.0) if version == "file" else 0.0
    return {
        each.round: getattr(each, by) - start_up for each in samples if (each.what, each.version) == (what, version)
    }


def _ratio(value: float) -> str:
    """A ratio, or a short time in seconds."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def _time(seconds: float) -> str:
    """A time in a unit of its size."""
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1e6:.3g} µs"
