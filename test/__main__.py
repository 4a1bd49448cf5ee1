"""
Run tests with trial, in two processes for each processor, from the root of the project::

    python -m test [ARGUMENT...]

The arguments are trial's. Where all of them are options, all tests are run.
"""

from __future__ import annotations

import compileall
import os
import sys
from pathlib import Path

from twisted.scripts.trial import run

# Half of a run's time is waits, for processes, timers and the disk: with one worker a processor it would be idle then.
WORKERS_FOR_EACH_PROCESSOR = 2

if __name__ == "__main__":
    # Where Python is not to write bytecode, each worker and each process of a test would compile the modules again.
    for name in ("dragonfly_vortex", "test", "benchmarks"):
        compileall.compile_dir(Path(__file__).resolve().parent.parent / name, quiet=1)
    # trial gives its own path to its workers.
    sys.path.insert(0, str(Path(__file__).with_name("workers")))
    names_tests = any(not argument.startswith("-") for argument in sys.argv[1:])
    workers = WORKERS_FOR_EACH_PROCESSOR * len(os.sched_getaffinity(0))
    # A failure is shown at once: a run may break off before its end.
    sys.argv = ["trial", f"--jobs={workers}", "--rterrors", *sys.argv[1:], *([] if names_tests else ["test"])]
    run()
