"""Made-up samples and reports for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from benchmarks.benchmark import Entry, Report
from benchmarks.contestants import CONTESTANTS
from benchmarks.figures import START_UP_LENGTH, Sample
from benchmarks.machine import Machine

__all__ = ["MACHINE", "contest_report", "contest_samples", "report_of"]

_MIB = 2**20

MACHINE = Machine(
    kernel="Linux 6.1",
    processor="a processor",
    cores=2,
    memory=8 * 10**9,
    python="CPython 3.12.1",
    packages={"dragonfly-vortex": "0.1.0", "Twisted": "26.10.0"},
)

_CASES = (
    *((name, 1001 * 10**6, 4 * _MIB, 8) for name in ("tcp", "grpc", "plain-from-ours", "plain-from-nginx")),
    *((name, 1001 * 10**6, 64 * _MIB, 1) for name in ("tcp", "grpc")),
    *((name, START_UP_LENGTH, 4 * _MIB, 8) for name in ("tcp", "grpc", "plain-from-ours", "plain-from-nginx")),
)

SampleT = TypeVar("SampleT")


def contest_samples() -> list[Sample]:
    """
    Three rounds. Start-up takes half a second; the file takes 1 s more in the first round, 2 s in the second and 4 s in
    the third; over gRPC it takes four times as long, in the first round twice as long. Other programs have an eighth of
    both cores.
    """
    samples = []
    for number in range(3):
        for contestant, content_length, piece_length, concurrency in _CASES:
            times = (2, 8, 16)[number] if contestant == "grpc" else (1, 2, 4)[number]
            times = 0 if content_length == START_UP_LENGTH else times
            samples.append(
                Sample(
                    round=number,
                    contestant=contestant,
                    content_length=content_length,
                    piece_length=piece_length,
                    concurrency=concurrency,
                    seconds=0.5 + times,
                    parent_processor=0.125 + times / 4,
                    child_processor=0.25 + times / 2,
                    parent_peak=(50 + times) * 10**6,
                    child_peak=(60 + times) * 10**6,
                    others=(0.5 + times) / 4,
                )
            )
    return samples


def report_of(samples: Sequence[SampleT]) -> Report[SampleT]:
    """A report with these samples."""
    return Report(
        command="python -m benchmarks walks",
        date="2026-01-02T03:04:05+00:00",
        commit="abc1234",
        machine=MACHINE,
        versions={"nginx": "1.2.3"},
        absences={"aria2c": [CONTESTANTS["aria2"].title, "another"]},
        entries=[
            Entry(name=each.name, title=each.title, group=each.group, parent="p", child=["c"], files={})
            for each in CONTESTANTS.values()
            if each.name in {case[0] for case in _CASES}
        ],
        samples=samples,
    )


def contest_report() -> Report[Sample]:
    """A report of the contest's samples."""
    return report_of(contest_samples())
