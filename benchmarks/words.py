"""Figures in words, the same ones in table and chart."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.figures import Spread

__all__ = ["length", "megabytes", "percent", "processor", "rate", "seconds", "times", "with_range"]

_NOTHING = "?"
"""What stands where nothing can be said."""


def length(size: int) -> str:
    """
    A length that somebody chose, in the unit in which it is a whole number.

    :param size: in bytes.
    """
    for unit, name in ((2**30, "GiB"), (10**9, "GB"), (2**20, "MiB"), (10**6, "MB"), (2**10, "KiB"), (10**3, "kB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"


def rate(value: float) -> str:
    """
    A throughput, in MB/s.

    :param value: in bytes per second.
    """
    return f"{value / 10**6:,.0f}"


def seconds(value: float) -> str:
    """A time."""
    return f"{value:.2f}"


def processor(value: float) -> str:
    """
    Processor time, of which a parent may need little.

    :param value: in seconds, or in seconds for 10⁹ bytes.
    """
    return f"{value:.3f}"


def megabytes(value: float) -> str:
    """
    Memory, in MB.

    :param value: in bytes.
    """
    return f"{value / 10**6:,.0f}"


def percent(value: float) -> str:
    """A part of a whole."""
    return f"{100 * value:.0f} %"


def times(value: float | None) -> str:
    """How many times as much one is as another."""
    return _NOTHING if value is None else f"{value:.2f}"


def with_range(spread: Spread | None, show: Callable[[float], str]) -> str:
    """A median, with the least and the most behind it."""
    if spread is None:
        return _NOTHING
    return f"{show(spread.median)} ({show(spread.minimum)}-{show(spread.maximum)})"
