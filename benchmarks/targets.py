"""What was to be reached: ratios of the best turns of one run, and where they must lie."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    Two sides that are compared.

    :param title: what is compared, as the report has it.
    :param ours: a name in :data:`~benchmarks.contestants.CONTESTANTS`.
    :param other: the other side.
    :param at_least: how many times as fast ours must be; None where something else is compared.
    :param at_most: how many times the processor time of the other side's parent our parent may need; None likewise.
    """

    title: str
    ours: str
    other: str
    at_least: float | None = None
    at_most: float | None = None


_REFERENCES = (("reference", "through its storage"), ("plain-reference", "plain writes"))
"""
Its children, both of which are to be reached: the one that writes through the reference's own storage, as its daemon
does, and the one that does nothing but verify and write.
"""

TARGETS = (
    Target(
        title="the whole command over TCP : over gRPC",
        ours="tcp",
        other="grpc",
        at_least=2.5,
    ),
    Target(
        title="pieces over TCP : over gRPC, without the file's hash",
        ours="tcp-pieces",
        other="grpc-pieces",
        at_least=3.0,
    ),
    Target(
        title="the whole command over TCP : nginx, curl and hash",
        ours="tcp",
        other="curl",
        at_least=1.5,
    ),
    Target(
        title="the whole command over TCP : nginx, aria2 and hash",
        ours="tcp",
        other="aria2",
        at_least=1.5,
    ),
    *(
        Target(title=f"{title}: the reference from the reference, {how}", ours=ours, other=other, at_least=1.0)
        for other, how in _REFERENCES
        for title, ours in (
            ("ours from ours ", "tcp-pieces"),
            ("ours from the reference ", "ours-from-reference"),
            ("the reference from ours ", f"{other}-from-ours"),
        )
    ),
    Target(
        title="our parent's processor time : nginx's, read by the same plain client",
        ours="plain-from-ours",
        other="plain-from-nginx",
        at_most=1.25,
    ),
    Target(
        title="pieces over TCP, verified and written into a file : iperf3",
        ours="tcp-pieces",
        other="iperf3",
        at_least=0.4,
    ),
    Target(
        title="the whole command over TCP, with the file's hash : iperf3",
        ours="tcp",
        other="iperf3",
        at_least=0.25,
    ),
)
