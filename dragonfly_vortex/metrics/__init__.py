"""
A peer's metrics under the reference's names: the counters of its doors, and the page for Prometheus.

The doors import :mod:`~dragonfly_vortex.metrics.counters` alone, which costs next to nothing and needs no library.
"""
