"""
Measurements: how fast pieces move between processes, and what that costs. The package does not import this.

``python -m benchmarks [NAME...]`` runs the benchmarks of the table in ``__main__``. Each is a module with a
:class:`~benchmarks.benchmark.Benchmark`: it takes its turns with real processes and yields a sample for each. The
samples are written to a JSON file in ``docs/``, and the table is drawn from that file alone. Another benchmark is
another module, a row in the table of ``__main__``, and a pair of markers in a page.

What they share: ``benchmark`` (rounds, reports, the drawn part of a page), ``processes`` (programs and servers),
``machine`` (where it ran, which versions, processor time, memory), ``peers`` (our daemon), ``material`` (files and
tasks), ``client`` (a plain client), ``turn`` (a download by a contestant), ``tables`` and ``charts``. ``programs/`` has
what is started as a process, ``cluster/`` what runs beside real Dragonfly programs; ``reference/`` is a Rust program
with its own build.
"""

from __future__ import annotations
