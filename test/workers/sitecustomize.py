"""
Let trial's workers find this project's tests. Python loads this module at the start of a worker, before any other.

A worker is a script of ``twisted.trial._dist``. That folder comes first in ``sys.path`` a moment later, and it holds a
package of the name ``test``, so the project's own is loaded now.
"""

from __future__ import annotations

import os

import test

__all__ = ["test"]

# It is for the workers only. What the tests start finds its modules as it does without workers.
os.environ.pop("PYTHONPATH", None)
