"""
Measurements: how fast pieces move between processes, and what that costs. The package does not import this.

``python -m benchmarks [NAME...]`` runs the benchmarks of the table in ``__main__``. Each is a module with a
:class:`~benchmarks.benchmark.Benchmark`: it takes its turns with real processes and yields a sample for each. The
samples are written to a JSON file in ``docs/``, and the table is drawn from that file alone. Another benchmark is
another module, a line in the table of ``__main__``, and a pair of markers in a page.

What they share: ``benchmark`` (options, rounds, reports, the drawn part of a page), ``processes`` (programs, servers,
processor time, memory), ``together`` (programs that begin at the same moment), ``peers`` (our daemon), ``material``
(files and tasks), ``client`` (a plain client), ``machine`` (where it ran, which versions) and ``text`` (tables in
Markdown). The contest is ``contestants`` (data), ``contest`` (the turns), ``figures`` (ratios), ``table`` and
``chart``; a swarm is ``swarm`` (the turns), ``swarm_figures`` and ``curves`` (lines in a chart). ``reference/`` is a
Rust program with its own build.
"""

from __future__ import annotations
