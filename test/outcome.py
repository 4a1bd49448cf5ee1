"""
Read from trial's output how runs of the tests ended, and say so in one line.

``python -m test.outcome FILE...`` prints the sum of all runs, and exits with 1 unless in each of them tests passed and
none failed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: trial's closing line; it leaves out what is zero, and with no test at all the parentheses.
CLOSING = re.compile(r"^(?:PASSED|FAILED)(?: \((.*)\))?$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How many tests passed, failed and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def is_good(self) -> bool:
        """Whether tests passed, and none failed."""
        return self.passed > 0 and self.failed == 0

    def __str__(self) -> str:
        """Return the line, without the skipped tests when there are none."""
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def outcome_of(output: str) -> Outcome:
    """
    Return how a run ended that wrote this output.

    Its last closing line counts: a test may show the output of another run. Where there is none the run broke off,
    and that counts as one failure.
    """
    closings = CLOSING.findall(output.replace("\r\n", "\n"))
    if not closings:
        return Outcome(failed=1)
    counts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", closings[-1])}
    return Outcome(
        passed=counts.get("successes", 0) + counts.get("expectedFailures", 0),
        failed=sum(counts.get(name, 0) for name in ("failures", "errors", "unexpectedSuccesses")),
        skipped=counts.get("skips", 0),
    )


def total(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the sum of several runs. A run in which nothing passed counts as one more failure."""
    return Outcome(
        passed=sum(outcome.passed for outcome in outcomes),
        failed=sum(max(outcome.failed, not outcome.is_good) for outcome in outcomes),
        skipped=sum(outcome.skipped for outcome in outcomes),
    )


if __name__ == "__main__":
    files = [Path(name).read_text(encoding="utf-8", errors="replace") for name in sys.argv[1:]]
    outcome = total([outcome_of(file) for file in files])
    print(outcome)
    sys.exit(0 if outcome.is_good else 1)
