"""
Counters, gauges and histograms with labels, and Prometheus's text format 0.0.4, which the reference uses, too. Any
thread may count and read.

The format is written here, and not by Prometheus's library for Python, because that puts ``_total`` behind the name of
every counter, which the reference's ``dragonfly_client_upload_traffic`` has not.
See https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from threading import Lock
from typing import Literal

from msgspec import Struct, field

__all__ = [
    "CONTENT_TYPE",
    "BoundedNames",
    "Counter",
    "Distribution",
    "Family",
    "Gauge",
    "Histogram",
    "Labels",
    "exponential_bounds",
    "family",
    "written",
]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]
"""The names and values of a sample's labels."""


class Distribution(Struct, frozen=True, kw_only=True):
    """
    The values that a histogram has observed.

    :param bounds: the upper bounds of its buckets, ascending, without that of the last one, which has none.
    :param counts: how many values are in each bucket, and in no lower one.
    :param total: the sum of all values.
    """

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


class Family(Struct, frozen=True, kw_only=True):
    """
    A metric, and its values.

    :param name: with its prefix.
    :param kind: a counter only grows, but for a new start of the peer.
    :param help: what it is.
    :param samples: the values of a counter or a gauge, by their labels.
    :param distributions: those of a histogram, by their labels.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: Mapping[Labels, float] = field(default_factory=dict)
    distributions: Mapping[Labels, Distribution] = field(default_factory=dict)


def family(name: str, kind: Literal["counter", "gauge"], help: str, value: float) -> Family:
    """A metric with one value, without labels."""
    return Family(name=name, kind=kind, help=help, samples={(): value})


def written(families: Iterable[Family]) -> bytes:
    """Write metrics as a page."""
    return "".join(_lines(each) for each in families).encode()


def _lines(metric: Family) -> str:
    head = f"# HELP {metric.name} {_escaped(metric.help)}\n# TYPE {metric.name} {metric.kind}\n"
    return head + "".join(f"{name}{_labels(labels)} {value}\n" for name, labels, value in _samples(metric))


def _samples(metric: Family) -> Iterator[tuple[str, Labels, float]]:
    """All lines of a metric: the name, labels and value of each."""
    for labels, value in metric.samples.items():
        yield metric.name, labels, value
    for labels, distribution in metric.distributions.items():
        bounds = (*(f"{bound:g}" if bound < 1e6 else str(int(bound)) for bound in distribution.bounds), "+Inf")
        for bound, count in zip(bounds, accumulate(distribution.counts), strict=True):
            yield f"{metric.name}_bucket", (*labels, ("le", bound)), count
        yield f"{metric.name}_sum", labels, distribution.total
        yield f"{metric.name}_count", labels, sum(distribution.counts)


def _labels(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_quoted(value)}"' for name, value in labels)
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')


_LONGEST = 100
"""Characters of a label that was given from outside."""


class _Instrument:
    """
    The base class of all.

    :param name: with its prefix.
    :param help: what it is.
    :param labels: the names of its labels.
    :param known: the labels that are there before anything is counted: a rate needs a first value.
    """

    def __init__(
        self, name: str, help: str, labels: Sequence[str] = (), known: Iterable[tuple[str, ...]] = ((),)
    ) -> None:
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self._lock = Lock()
        for values in known:
            self._add_empty(values)

    def _add_empty(self, values: tuple[str, ...]) -> None:
        raise NotImplementedError

    def _labels(self, values: tuple[str, ...]) -> Labels:
        return tuple(zip(self.labels, values, strict=True))

    def family(self) -> Family:
        """The metric as it is now."""
        raise NotImplementedError


class Counter(_Instrument):
    """A number that only grows. For the parameters see :class:`_Instrument`."""

    kind: Literal["counter", "gauge"] = "counter"

    def __init__(
        self, name: str, help: str, labels: Sequence[str] = (), known: Iterable[tuple[str, ...]] = ((),)
    ) -> None:
        self._values: dict[tuple[str, ...], float] = {}
        super().__init__(name, help, labels, known)

    def _add_empty(self, values: tuple[str, ...]) -> None:
        self._values[values] = 0

    def add(self, *values: str, amount: float = 1) -> None:
        """
        Increase the counter.

        :param values: the values of the labels.
        :param amount: how much there is more.
        """
        with self._lock:
            self._values[values] = self._values.get(values, 0) + amount

    def family(self) -> Family:
        with self._lock:
            counted = dict(self._values)
        samples = {self._labels(values): amount for values, amount in counted.items()}
        return Family(name=self.name, kind=self.kind, help=self.help, samples=samples)


class Gauge(Counter):
    """A number that grows and shrinks."""

    kind = "gauge"

    def set(self, *values: str, amount: float) -> None:
        """
        Set the value.

        :param values: the values of the labels.
        :param amount: what it is from now on.
        """
        with self._lock:
            self._values[values] = amount


class Histogram(_Instrument):
    """
    How many values were observed in each of some ranges. For the other parameters see :class:`_Instrument`.

    :param bounds: the upper bounds of the ranges, ascending; each belongs to its range.
    """

    def __init__(
        self,
        name: str,
        help: str,
        labels: Sequence[str] = (),
        known: Iterable[tuple[str, ...]] = ((),),
        *,
        bounds: Sequence[float],
    ) -> None:
        self.bounds = tuple(bounds)
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._totals: dict[tuple[str, ...], float] = {}
        super().__init__(name, help, labels, known)

    def _add_empty(self, values: tuple[str, ...]) -> None:
        self._counts[values] = [0] * (len(self.bounds) + 1)
        self._totals[values] = 0

    def observe(self, *values: str, amount: float) -> None:
        """
        Count a value.

        :param values: the values of the labels.
        :param amount: what was observed.
        """
        with self._lock:
            if values not in self._counts:
                self._add_empty(values)
            self._counts[values][bisect_left(self.bounds, amount)] += 1
            self._totals[values] += amount

    def family(self) -> Family:
        with self._lock:
            distributions = {
                self._labels(values): Distribution(bounds=self.bounds, counts=list(counts), total=self._totals[values])
                for values, counts in self._counts.items()
            }
        return Family(name=self.name, kind="histogram", help=self.help, distributions=distributions)


class BoundedNames:
    """
    Names for a label that come from outside, and of which there may be any number: the first ones are kept, and all
    further ones are ``other``.

    :param most: how many are kept.
    """

    OTHER = "other"

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: set[tuple[str, ...]] = set()
        self._lock = Lock()

    def admit(self, *names: str) -> tuple[str, ...]:
        """
        Return names that belong together as labels.

        :param names: their first 100 characters count.
        """
        short = tuple(name[:_LONGEST] for name in names)
        with self._lock:
            if short not in self._kept:
                if len(self._kept) >= self._most:
                    return (self.OTHER,) * len(names)
                self._kept.add(short)
        return short


def exponential_bounds(first: float, factor: float, count: int) -> tuple[float, ...]:
    """The bounds of a histogram's buckets: each is as many times the one before it."""
    return tuple(first * factor**number for number in range(count))
