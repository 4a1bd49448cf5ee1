"""
Run tests with trial, in as many processes as there are processors, from the root of the project::

    python -m test [ARGUMENT...]

The arguments are trial's. Where all of them are options, all tests are run.
"""

from __future__ import annotations

import compileall
import sys
from pathlib import Path

from twisted.scripts.trial import run

if __name__ == "__main__":
    # Where Python is not to write bytecode, each process that a test starts would compile the package again.
    compileall.compile_dir(Path(__file__).resolve().parent.parent / "dragonfly_vortex", quiet=1)
    # trial gives its own path to its workers.
    sys.path.insert(0, str(Path(__file__).with_name("workers")))
    names_tests = any(not argument.startswith("-") for argument in sys.argv[1:])
    sys.argv = ["trial", "--jobs=auto", *sys.argv[1:], *([] if names_tests else ["test"])]
    run()
