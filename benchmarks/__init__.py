"""
How fast pieces go from one process to another, and what that costs. The package knows nothing of what is in here.

``python -m benchmarks`` is the contest: everyone fetches the same file, as real processes over real sockets. Who takes
part stands in ``contestants/``, as values of what ``contestant`` describes; what is to be reached in ``targets``. From
the command line to the document: ``options`` → ``settings`` (what is measured, in which order) → ``race`` (the turns;
``material``, ``certificate``, ``installed``, ``servers`` and ``programs/`` are what they need, ``processes`` what they
read) → ``figures`` (minima, medians, ratios) → ``report`` (the JSON file) → ``table`` and ``chart``, which know only
that file, and say it in ``words`` → ``page`` (the place in ``docs/performance.md`` where the tables go).

``python -m benchmarks.<name>`` answers one question each, in the frame of ``measurement``.

``reference/`` is the Rust reference as a program, which is built by a command of its own and is no part of the package.
"""

from __future__ import annotations
