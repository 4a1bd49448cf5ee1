"""
A peer's metrics, by the names that the reference's have: what its doors count, and the page that a Prometheus reads.

Those who count know :mod:`~dragonfly_vortex.metrics.counters` alone, which costs next to nothing and needs no library.
"""
