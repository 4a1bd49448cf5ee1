"""Tiny runs of benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.benchmark import Options, Run

__all__ = ["quick_samples"]

SampleT = TypeVar("SampleT")


def quick_samples(case: SynchronousTestCase, measure: Callable[[Run], Iterator[SampleT]]) -> list[SampleT]:
    """The samples of one quick round."""
    directory = Path(case.mktemp()).absolute()
    directory.mkdir()
    return list(measure(Run(directory=directory, options=Options(quick=True, rounds=1), tell=len)))
