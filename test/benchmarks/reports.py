"""Runs that nobody has run: samples and reports made up for tests."""

from __future__ import annotations

from benchmarks.contestants import CONTESTANTS
from benchmarks.machine import Machine
from benchmarks.race import Sample
from benchmarks.report import Absence, Report, entries
from benchmarks.settings import Case, Settings, Shape, turns

__all__ = ["make_report", "make_sample", "make_settings"]

_MIB = 2**20


def make_settings() -> Settings:
    """Four contestants, a file of 1001 MB, three rounds; our TCP and gRPC in larger pieces, one by one, too."""
    return Settings(
        contestants=("tcp", "grpc", "plain-from-ours", "plain-from-nginx"),
        shape=Shape(piece_length=4 * _MIB, concurrency=8),
        in_other_shapes=("tcp", "grpc"),
        other_shapes=(Shape(piece_length=64 * _MIB, concurrency=1),),
        content_length=1001 * 10**6,
        rounds=3,
        start_ups=2,
        seed=7,
    )


def make_sample(number: int, case: Case) -> Sample:
    """
    What a turn could have shown: start-up takes half a second; the file takes 1 s more in the first round, 2 s in the
    second and 4 s in the third; over gRPC it takes four times as long, in the first round twice as long. Something else
    has an eighth of both cores.
    """
    times = (2, 8, 16)[number] if case.contestant == "grpc" else (1, 2, 4)[number]
    if case.is_start_up:
        times = 0
    return Sample(
        round=number,
        case=case,
        seconds=0.5 + times,
        parent_processor=0.125 + times / 4,
        child_processor=0.25 + times / 2,
        parent_peak=(50 + times) * 10**6,
        child_peak=(60 + times) * 10**6,
        others=(0.5 + times) / 4,
    )


def make_report() -> Report:
    """A report of such samples, on a machine that lacks aria2."""
    settings = make_settings()
    samples = tuple(make_sample(number, case) for number, case in turns(settings))
    return Report(
        command="python -m benchmarks --seed 7",
        date="2026-01-02T03:04:05+00:00",
        machine=Machine(
            kernel="Linux 6.1",
            processor="a processor",
            cores=2,
            memory=8 * 10**9,
            python="CPython 3.12.1",
            packages={"dragonfly-vortex": "0.1.0", "Twisted": "26.10.0"},
        ),
        versions={"nginx": "1.2.3"},
        settings=settings,
        entries=entries(settings),
        absences=(Absence(title=CONTESTANTS["aria2"].title, missing="aria2c"),),
        samples=samples,
    )
