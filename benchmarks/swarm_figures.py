"""What is measured of a swarm, its table and its chart: how the time grows with the number of peers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, floor, log2
from pathlib import Path
from statistics import median

from benchmarks.benchmark import Report
from benchmarks.curves import Curve, draw_curves
from benchmarks.text import length, spread, spread_text, table

__all__ = ["FORGED", "KILLED", "OURS", "SIMULATED", "TORRENT", "Case", "Sample", "draw", "draw_chart", "simulated"]

OURS, TORRENT, SIMULATED = "dfvortex", "libtorrent", "simulated"
"""Whose peers they are; those of the simulator are :func:`dragonfly_vortex.testing.swarm.simulate`'s."""

KILLED, FORGED = "killed", "FORGED"
"""
What one peer in four does, beside the faults of :class:`~dragonfly_vortex.testing.contract_parent.Fault`: it is killed,
or sends pieces with a wrong byte and names the digest of what it sends.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    What is measured once in each round.

    :param program: :data:`OURS`, :data:`TORRENT` or :data:`SIMULATED`.
    :param peers: how many fetch, without the first that has the file, and without those that lie.
    :param piece_length: bytes of every piece but the last.
    :param harm: what one peer in four does; empty for nothing.
    """

    program: str
    peers: int
    piece_length: int
    harm: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Case):
    """
    What was seen in one turn.

    :param content_length: bytes of the file.
    :param upload_limit: bytes per second that each peer sends at most.
    :param seconds: until the last peer has it; of those that live.
    :param unfinished: peers that live and did not get it.
    :param first_sent: bytes of pieces that left the peer which had the file.
    :param sent: bytes of pieces that left all peers that live, and that one.
    :param wrong: bytes that a storage offers and that are not the file's.
    :param load: processes that were ready to run before the turn, on the average of a minute.
    :param busy: the part of the cores' time that was used meanwhile, by whatever ran.
    """

    content_length: int
    upload_limit: int
    seconds: float
    unfinished: int
    first_sent: int
    sent: int
    wrong: int
    load: float
    busy: float

    @property
    def least_times(self) -> float:
        """
        The least time in which such a swarm can have the file, as a multiple of the time of one peer: with N peers of
        equal rates and M pieces 1 + floor(log2 N) / M (Mundinger, Weber, Weiss: Optimal scheduling of peer-to-peer file
        dissemination, 2008).
        """
        return 1 + floor(log2(self.peers)) / ceil(self.content_length / self.piece_length)


def simulated(
    case: Case, content_length: int, upload_limit: int, *, seed: int, neighbours: int | None = None
) -> Sample:
    """
    A swarm in the simulator.

    :param content_length: bytes of the file.
    :param upload_limit: bytes per second that each peer sends at most.
    :param neighbours: how many peers each child knows besides the first; None for all.
    """
    from dragonfly_vortex.testing.simulation import Swarm  # loads Twisted
    from dragonfly_vortex.testing.swarm import simulate

    swarm = Swarm(
        peers=case.peers,
        content_length=content_length,
        piece_length=case.piece_length,
        rate=upload_limit,
        neighbours=neighbours,
        seed=seed,
    )
    outcome = simulate(swarm)
    return Sample(
        **asdict(case),
        content_length=content_length,
        upload_limit=upload_limit,
        seconds=outcome.seconds,
        unfinished=len(outcome.failed),
        first_sent=outcome.sent[0],
        sent=sum(outcome.sent.values()),
        wrong=outcome.wrong,
        load=0.0,
        busy=0.0,
    )


def draw(report: Report[Sample]) -> str:
    """The circumstances, the targets, and a line for each kind of swarm."""
    samples = report.samples
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    loads = spread([each.load for each in samples if each.program != SIMULATED])
    size, limit = length(samples[0].content_length), length(samples[0].upload_limit)
    head = [
        f"{report.origin}{'; ' if versions else ''}{versions}",
        f"A file of {size}; each peer sends at most {limit}/s. The machine's load before a turn, of a minute:"
        f" {spread_text(loads, '.1f')}.",
    ]
    return "\n\n".join([*head, _targets(samples), _swarms(samples), _harms(samples)])


def _swarms(samples: Sequence[Sample]) -> str:
    """A line for each real swarm in which no peer is harmed; the chart has the simulated ones, too."""
    lengths = sorted({each.piece_length for each in samples})
    head = ["peers", "N"]
    for piece_length in lengths:
        head += [f"{length(piece_length)}: seconds", "sent by the first"]
    rows = []
    for program, peers in sorted(
        {(each.program, each.peers) for each in samples if not each.harm and each.program != SIMULATED},
        key=lambda key: (_ORDER.index(key[0]), key[1]),
    ):
        cells = [program, str(peers)]
        for piece_length in lengths:
            cells += _swarm(samples, program, peers, piece_length)
        rows.append(cells)
    busy = spread([each.busy for each in samples if each.program != SIMULATED])
    sent = max(
        each.sent / each.content_length / each.peers for each in samples if not each.harm and each.program != SIMULATED
    )
    legend = (
        f"Sent: in copies of the file; by all peers together at most {sent:.2f} for each peer."
        f" In real turns {spread_text(busy, '.0%')} of the processor's time was used."
    )
    return f"{legend}\n\n{table(head, rows)}"


def _swarm(samples: Sequence[Sample], program: str, peers: int, piece_length: int) -> list[str]:
    """The time and what was sent, of one kind of swarm and one length of pieces."""
    taken = _taken(samples, program, peers, piece_length)
    if not taken:
        return [""] * 2
    times, size = spread([each.seconds for each in taken]), taken[0].content_length
    return [
        spread_text(times, ".1f"),
        f"{median([each.first_sent for each in taken]) / size:.2f}",
    ]


def _harms(samples: Sequence[Sample]) -> str:
    """The times of swarms in which one peer in four is killed, or lies, and what came of all of them."""
    found = []
    for piece_length, harm in sorted({(each.piece_length, each.harm) for each in samples if each.harm}):
        taken = [each.seconds for each in samples if (each.piece_length, each.harm) == (piece_length, harm)]
        times = spread_text(spread(taken), ".1f") if len(taken) > 1 else f"{taken[0]:.1f}"
        what = f"{harm} with {length(piece_length)}" if harm == KILLED else f"`{harm}`"
        found.append(f"{what} {times}")
    unfinished, wrong = (sum(getattr(each, name) for each in samples if each.harm) for name in ("unfinished", "wrong"))
    return (
        f"Seconds where one peer in four is killed or lies, N = 8: {', '.join(found)}."
        f" Honest peers without the file at the end: {unfinished}; wrong bytes kept: {wrong}."
    )


def _targets(samples: Sequence[Sample]) -> str:
    """A line for each target, with what was measured for each length of pieces."""
    lengths = sorted({each.piece_length for each in samples})
    head, rows = ["medians, bold where missed"], list[list[str]]()
    for piece_length, most in zip(lengths, ({8: 1.6, 16: 1.8}, {8: 2.0, 16: 2.3}), strict=False):
        head += [length(piece_length), "at most"]
        for number, (what, limit, measured) in enumerate(_targets_of(samples, piece_length, most)):
            if number == len(rows):
                rows.append([what])
            rows[number] += [_verdict(measured, limit), f"{limit:g}"]
    return table(head, rows)


def _verdict(measured: float | None, most: float) -> str:
    """The ratio, in bold where it is too large."""
    if measured is None:
        return "?"
    return f"{measured:.2f}" if measured <= most else f"**{measured:.2f}**"


def _targets_of(
    samples: Sequence[Sample], piece_length: int, most: Mapping[int, float]
) -> Iterator[tuple[str, float, float | None]]:
    """
    For each target what it is, its limit, and the ratio; None where a side was not measured.

    :param most: the limit of the time, as a multiple of that of one peer, by the number of peers.
    """

    def ratio(over: float | None, under: float | None) -> float | None:
        return None if over is None or not under else over / under

    one, eight = (_seconds(samples, OURS, peers, piece_length) for peers in (1, 8))
    for peers, limit in most.items():
        yield f"N = {peers} : N = 1", limit, ratio(_seconds(samples, OURS, peers, piece_length), one)
    yield "N = 8, ours : libtorrent", 0.7, ratio(eight, _seconds(samples, TORRENT, 8, piece_length))
    taken = _taken(samples, OURS, 8, piece_length)
    sent = median([each.first_sent for each in taken]) if taken else None
    yield "N = 8, bytes that leave the first : size", 1.6, ratio(sent, samples[0].content_length)
    yield "N = 8, one in four killed : none", 1.5, ratio(_seconds(samples, OURS, 8, piece_length, KILLED), eight)


def _taken(samples: Sequence[Sample], program: str, peers: int, piece_length: int, harm: str = "") -> list[Sample]:
    case = Case(program=program, peers=peers, piece_length=piece_length, harm=harm)
    return [each for each in samples if all(getattr(each, name) == getattr(case, name) for name in _CASE)]


def _seconds(samples: Sequence[Sample], program: str, peers: int, piece_length: int, harm: str = "") -> float | None:
    """The median time; None where it was not measured."""
    taken = _taken(samples, program, peers, piece_length, harm)
    return median([each.seconds for each in taken]) if taken else None


def curves(report: Report[Sample]) -> list[Curve]:
    """The time against the number of peers, and the least time that is possible."""
    samples = [each for each in report.samples if not each.harm]
    drawn = []
    for piece_length, program in sorted(
        {(each.piece_length, each.program) for each in samples}, key=lambda key: (_ORDER.index(key[1]), key[0])
    ):
        counts = sorted(
            {each.peers for each in samples if (each.piece_length, each.program) == (piece_length, program)}
        )
        spreads = [spread([each.seconds for each in _taken(samples, program, count, piece_length)]) for count in counts]
        drawn.append(
            Curve(
                title=f"{program}, pieces of {length(piece_length)}",
                points=[(count, each.median) for count, each in zip(counts, spreads, strict=True)],
                reaches=[(each.minimum, each.maximum) for each in spreads],
                is_dashed=program == SIMULATED,
            )
        )
    return drawn


def draw_chart(report: Report[Sample], path: Path) -> None:
    """
    Draw the chart.

    :param path: an SVG file.
    :raises ImportError: matplotlib is not installed.
    """
    draw_curves(curves(report), path, "peers that fetch", "seconds until the last has the file")


_ORDER = (OURS, SIMULATED, TORRENT)
_CASE = ("program", "peers", "piece_length", "harm")
