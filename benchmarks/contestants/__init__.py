"""
Who takes part in ``python -m benchmarks``. Another contestant is another value in one of these modules, or in a new
one that is named here; what it may say is in :mod:`benchmarks.contestant`.
"""

from __future__ import annotations

from benchmarks.contestant import Contestant
from benchmarks.contestants import http, iperf3, ours, plain, reference

__all__ = ["CONTESTANTS"]

CONTESTANTS: dict[str, Contestant] = {
    each.name: each
    for each in (
        *ours.CONTESTANTS,
        *http.CONTESTANTS,
        *reference.CONTESTANTS,
        *plain.CONTESTANTS,
        *iperf3.CONTESTANTS,
    )
}
"""All of them by name, in the order of the report."""
