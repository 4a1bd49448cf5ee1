"""
How fast pieces go from one process to another, and what that costs: ``python -m benchmarks``.

Real processes over real sockets: for each turn a fresh parent by ``twistd dfvortex`` and a child by
``dfvortex download``, over one transport after the other. The package knows nothing of what is in here.

From the command line to the document: ``options`` → ``settings`` (what is measured, and in which order) → ``race`` (the
turns; ``material`` and ``peers`` are what they need, ``processes`` what they read) → ``figures`` (minima, medians,
ratios) → ``report`` (the JSON file) → ``table`` and ``chart``, which know that file alone, and say it in ``words`` →
``page`` (the place in ``docs/performance.md`` where the table goes).
"""

from __future__ import annotations
