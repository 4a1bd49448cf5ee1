"""What is measured of a swarm, its table and its chart: how the time grows with the number of peers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.benchmark import Report, Sample
from benchmarks.charts import Curve, draw_curves
from benchmarks.tables import length, spread, spread_text, table

__all__ = ["FORGED", "KILLED", "OURS", "SIMULATED", "TORRENT", "Case", "curves", "draw", "draw_chart", "simulated"]

OURS, TORRENT, SIMULATED = "dfvortex", "libtorrent", "simulated"
"""Whose peers they are; those of the simulator are :func:`dragonfly_vortex.testing.swarm.simulate`'s."""

KILLED, FORGED = "killed", "FORGED"
"""
What one peer in four does, beside the faults of :class:`~dragonfly_vortex.testing.contract_parent.Fault`: it is killed,
or sends pieces with a wrong byte and names the digest of what it sends.
"""

_ORDER = (OURS, SIMULATED, TORRENT)

_TIMES = ({8: 1.6, 16: 1.8}, {8: 2.0, 16: 2.3})
"""For the shorter and the longer pieces: what N peers may take at most, as a multiple of the time of one."""


class Case(NamedTuple):
    """
    What is measured once in each round.

    A sample is a case with ``content_length`` and ``upload_limit``, in bytes and bytes per second; ``seconds`` until
    the last peer that lives has the file; ``unfinished``: peers that live and did not get it; ``first_sent`` and
    ``sent``: bytes of pieces that left the peer which had the file, and all that live; ``wrong``: bytes that a storage
    offers and that are not the file's; ``load``: the load average before the turn; ``busy``: the part of the cores'
    time that was used meanwhile.

    :ivar program: :data:`OURS`, :data:`TORRENT` or :data:`SIMULATED`.
    :ivar peers: how many fetch, without the first that has the file, and without those that lie.
    :ivar piece_length: bytes of every piece but the last.
    :ivar harm: what one peer in four does; empty for nothing.
    """

    program: str
    peers: int
    piece_length: int
    harm: str = ""

    def sample(self, content_length: int, upload_limit: int) -> Sample:
        """The part of a sample that is known before the turn."""
        return {**self._asdict(), "content_length": content_length, "upload_limit": upload_limit}


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
    return {
        **case.sample(content_length, upload_limit),
        "seconds": outcome.seconds,
        "unfinished": len(outcome.failed),
        "first_sent": outcome.sent[0],
        "sent": sum(outcome.sent.values()),
        "wrong": outcome.wrong,
        "load": 0.0,
        "busy": 0.0,
    }


def draw(report: Report) -> str:
    """The circumstances, the targets, and a line for each kind of swarm. The chart has the simulated ones, too."""
    versions = "".join(f"; {name} {version}" for name, version in report.versions.items())
    real = [each for each in report.samples if each["program"] != SIMULATED]
    size, limit = length(report.samples[0]["content_length"]), length(report.samples[0]["upload_limit"])
    load, busy = (spread([each[name] for each in real]) for name in ("load", "busy"))
    sent = max(each["sent"] / each["content_length"] / each["peers"] for each in real if not each["harm"])
    parts = [
        f"{report.origin}{versions}",
        f"A file of {size}; each peer sends at most {limit}/s. The machine's load before a turn, of a minute:"
        f" {spread_text(load, '.1f')}.",
        _targets(report),
        f"Sent: in copies of the file; by all peers together at most {sent:.2f} for each peer."
        f" In real turns {spread_text(busy, '.0%')} of the processor's time was used.",
        _swarms(report),
        _harms(report),
    ]
    return "\n\n".join(parts)


def _lengths(report: Report) -> list[int]:
    """The lengths of pieces."""
    return [each for (each,) in report.cases("piece_length")]


def _seconds(report: Report, program: str, peers: int, piece_length: int, harm: str = "") -> float | None:
    """The median time; None where it was not measured."""
    found = report.values("seconds", program=program, peers=peers, piece_length=piece_length, harm=harm)
    return median(found) if found else None


def _targets(report: Report) -> str:
    """A line for each target, with what was measured for each length of pieces."""
    head, columns = ["medians, bold where missed"], []
    for piece_length, most in zip(_lengths(report), _TIMES, strict=False):
        head += [length(piece_length), "at most"]
        columns.append(list(_targets_of(report, piece_length, most)))
    rows = []
    for targets in zip(*columns, strict=True):
        row = [targets[0][0]]
        for _, limit, over, under in targets:
            ratio = None if over is None or not under else over / under
            shown = "?" if ratio is None else f"{ratio:.2f}" if ratio <= limit else f"**{ratio:.2f}**"
            row += [shown, f"{limit:g}"]
        rows.append(row)
    return table(head, rows)


def _targets_of(
    report: Report, piece_length: int, most: Mapping[int, float]
) -> Iterator[tuple[str, float, float | None, float | None]]:
    """
    For each target what it is, its limit, and the two sides of the ratio; None for one that was not measured.

    :param most: the limit of the time, as a multiple of that of one peer, by the number of peers.
    """
    one, eight = (_seconds(report, OURS, peers, piece_length) for peers in (1, 8))
    for peers, limit in most.items():
        yield f"N = {peers} : N = 1", limit, _seconds(report, OURS, peers, piece_length), one
    yield "N = 8, ours : libtorrent", 0.7, eight, _seconds(report, TORRENT, 8, piece_length)
    sent = report.values("first_sent", program=OURS, peers=8, piece_length=piece_length, harm="")
    size = report.samples[0]["content_length"]
    yield "N = 8, bytes that leave the first : size", 1.6, median(sent) if sent else None, size
    yield "N = 8, one in four killed : none", 1.5, _seconds(report, OURS, 8, piece_length, KILLED), eight


def _swarms(report: Report) -> str:
    """A line for each real swarm in which no peer is harmed."""
    head, rows = ["peers", "N"], []
    for piece_length in _lengths(report):
        head += [f"{length(piece_length)}: seconds", "sent by the first"]
    kinds = report.cases("program", "peers", harm="")
    for program, peers in sorted(kinds, key=lambda kind: (_ORDER.index(kind[0]), kind[1])):
        if program == SIMULATED:
            continue
        cells = [program, str(peers)]
        for piece_length in _lengths(report):
            taken = report.taken(program=program, peers=peers, piece_length=piece_length, harm="")
            times = spread_text(spread([each["seconds"] for each in taken]), ".1f") if taken else ""
            sent = f"{median(each['first_sent'] / each['content_length'] for each in taken):.2f}" if taken else ""
            cells += [times, sent]
        rows.append(cells)
    return table(head, rows)


def _harms(report: Report) -> str:
    """The times of swarms in which one peer in four is killed, or lies, and what came of all of them."""
    found = []
    for piece_length, harm in report.cases("piece_length", "harm"):
        if harm:
            taken = report.values("seconds", piece_length=piece_length, harm=harm)
            times = spread_text(spread(taken), ".1f") if len(taken) > 1 else f"{taken[0]:.1f}"
            found.append(f"{f'{harm} with {length(piece_length)}' if harm == KILLED else f'`{harm}`'} {times}")
    harmed = [each for each in report.samples if each["harm"]]
    unfinished, wrong = (sum(each[name] for each in harmed) for name in ("unfinished", "wrong"))
    return (
        f"Seconds where one peer in four is killed or lies, N = 8: {', '.join(found)}."
        f" Honest peers without the file at the end: {unfinished}; wrong bytes kept: {wrong}."
    )


def curves(report: Report) -> list[Curve]:
    """The time against the number of peers."""
    kinds = report.cases("piece_length", "program", harm="")
    drawn = []
    for piece_length, program in sorted(kinds, key=lambda kind: (_ORDER.index(kind[1]), kind[0])):
        case = {"program": program, "piece_length": piece_length, "harm": ""}
        counts = [count for (count,) in report.cases("peers", **case)]
        spreads = [spread(report.values("seconds", peers=count, **case)) for count in counts]
        drawn.append(
            Curve(
                title=f"{program}, pieces of {length(piece_length)}",
                points=[(count, each.median) for count, each in zip(counts, spreads, strict=True)],
                reaches=[(each.minimum, each.maximum) for each in spreads],
                is_dashed=program == SIMULATED,
            )
        )
    return drawn


def draw_chart(report: Report, path: Path) -> None:
    """
    Draw the chart.

    :param path: an SVG file.
    :raises ImportError: matplotlib is not installed.
    """
    draw_curves(curves(report), path, "peers that fetch", "seconds until the last has the file")
