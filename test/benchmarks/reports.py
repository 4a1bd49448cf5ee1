"""Made-up reports, and tiny runs of benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.benchmark import Options, Report, Run, Sample
from benchmarks.contestants import CONTESTANTS
from benchmarks.turn import START_UP_LENGTH

__all__ = ["contest_report", "contest_samples", "quick_samples", "report_of"]

_MIB = 2**20

_NAMES = ("tcp", "grpc", "plain-from-ours", "plain-from-nginx")
_SHAPES = (
    *((name, 1001 * 10**6, 4 * _MIB, 8) for name in _NAMES),
    *((name, 1001 * 10**6, 64 * _MIB, 1) for name in ("tcp", "grpc")),
    *((name, START_UP_LENGTH, 4 * _MIB, 8) for name in _NAMES),
)


def quick_samples(case: SynchronousTestCase, measure: Callable[[Run], Iterator[Sample]]) -> list[Sample]:
    """The samples of one quick round."""
    directory = Path(case.mktemp()).absolute()
    directory.mkdir()
    return list(measure(Run(directory=directory, options=Options(quick=True, rounds=1), tell=len)))


def contest_samples() -> list[Sample]:
    """
    Three rounds. Start-up takes half a second; the file takes 1 s more in the first round, 2 s in the second and 4 s in
    the third; over gRPC it takes four times as long, in the first round twice as long. Other programs have an eighth of
    both cores.
    """
    samples = []
    for number in range(3):
        for shape in _SHAPES:
            times = (2, 8, 16)[number] if shape[0] == "grpc" else (1, 2, 4)[number]
            times = 0 if shape[1] == START_UP_LENGTH else times
            sample: Sample = dict(
                zip(("contestant", "content_length", "piece_length", "concurrency"), shape, strict=True)
            )
            sample |= {"round": number, "seconds": 0.5 + times, "others": (0.5 + times) / 4}
            sample |= {"parent_processor": 0.125 + times / 4, "child_processor": 0.25 + times / 2}
            sample |= {"parent_peak": (50 + times) * 10**6, "child_peak": (60 + times) * 10**6}
            samples.append(sample)
    return samples


def report_of(samples: Sequence[Sample]) -> Report:
    """A report with these samples."""
    return Report(
        command="python -m benchmarks walks",
        date="2026-01-02T03:04:05+00:00",
        commit="abc1234",
        machine={
            "kernel": "Linux 6.1",
            "processor": "a processor",
            "cores": 2,
            "memory": 8 * 10**9,
            "python": "CPython 3.12.1",
            "packages": {"dragonfly-vortex": "0.1.0", "Twisted": "26.10.0"},
        },
        versions={"nginx": "1.2.3"},
        absences={"aria2c": [CONTESTANTS["aria2"].title, "another"]},
        entries=[
            {"name": name, "title": CONTESTANTS[name].title, "group": CONTESTANTS[name].group, "parent": "p"}
            for name in _NAMES
        ],
        samples=samples,
    )


def contest_report() -> Report:
    """A report of the contest's samples."""
    return report_of(contest_samples())
