"""What was to be reached: ratios of the best turns of one run, and where they must lie."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    Two sides that are compared. Where a side has several contestants, the best of them counts.

    :param title: what is compared, as the report has it.
    :param ours: names in :data:`~benchmarks.contestants.CONTESTANTS`.
    :param others: the other side.
    :param at_least: how many times as fast ours must be; None where something else is compared.
    :param at_most: how many times the processor time of the other side's parent our parent may need; None likewise.
    """

    title: str
    ours: tuple[str, ...]
    others: tuple[str, ...]
    at_least: float | None = None
    at_most: float | None = None


_REFERENCE = ("reference", "plain-reference")

TARGETS = (
    Target(
        title="the whole command over TCP : over gRPC",
        ours=("tcp",),
        others=("grpc",),
        at_least=2.5,
    ),
    Target(
        title="pieces over TCP : over gRPC, without the file's hash",
        ours=("tcp-pieces",),
        others=("grpc-pieces",),
        at_least=3.0,
    ),
    Target(
        title="the whole command over TCP : nginx, curl and hash",
        ours=("tcp",),
        others=("curl",),
        at_least=1.5,
    ),
    Target(
        title="the whole command over TCP : nginx, aria2 and hash",
        ours=("tcp",),
        others=("aria2",),
        at_least=1.5,
    ),
    Target(
        title="ours from ours : the reference from the reference, pieces",
        ours=("tcp-pieces",),
        others=_REFERENCE,
        at_least=1.0,
    ),
    Target(
        title="ours from the reference : the reference from the reference, pieces",
        ours=("ours-from-reference",),
        others=_REFERENCE,
        at_least=1.0,
    ),
    Target(
        title="the reference from ours : the reference from the reference, pieces",
        ours=("reference-from-ours", "plain-reference-from-ours"),
        others=_REFERENCE,
        at_least=1.0,
    ),
    Target(
        title="our parent's processor time : nginx's, read by the same plain client",
        ours=("plain-from-ours",),
        others=("plain-from-nginx",),
        at_most=1.25,
    ),
    Target(
        title="pieces over TCP, verified and on the disk : iperf3",
        ours=("tcp-pieces",),
        others=("iperf3",),
        at_least=0.4,
    ),
    Target(
        title="the whole command over TCP, with the file's hash : iperf3",
        ours=("tcp",),
        others=("iperf3",),
        at_least=0.25,
    ),
)
