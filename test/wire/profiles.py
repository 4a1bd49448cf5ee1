"""
How long hypothesis looks for a counterexample.

``DFVORTEX_HYPOTHESIS=long`` in the environment makes it look at length, each time elsewhere; without it, it looks at
the same few examples each time, as CI must.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, Verbosity, settings

__all__ = ["PROFILE", "QUIET"]

_PROFILES = {
    "short": settings(
        max_examples=200,
        stateful_step_count=30,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    ),
    "long": settings(
        max_examples=20_000,
        stateful_step_count=100,
        derandomize=False,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    ),
}

PROFILE = _PROFILES[os.environ.get("DFVORTEX_HYPOTHESIS", "short")]
"""The settings for what is to hold."""

QUIET = settings(
    _PROFILES["short"],
    max_examples=1000,
    phases=[Phase.generate],
    verbosity=Verbosity.quiet,
    report_multiple_bugs=False,
)
"""The settings for a planted error, which is to be found, and neither made small nor shown."""
