"""
Read from trial's output how runs of the tests ended, and say what failed.

``python -m test.outcome [--stages NAMES] FILE...`` prints the report of each failed test, then the names of the failed
tests and of the failed stages, then one line with the sum of all runs. It exits with 1 unless in each run tests passed
and none failed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: How many lines are shown of one report, and of the output of a run that broke off: the last ones say what happened.
SHOWN_LINES = 60
#: How many reports are shown, and how many names of failed tests.
SHOWN_REPORTS = 20
SHOWN_NAMES = 30

#: trial's closing line; it leaves out what is zero, and with no test at all the parentheses.
CLOSING = re.compile(r"^(?:PASSED|FAILED)(?: \((.*)\))?$", re.MULTILINE)
#: Where trial's report of one failure begins. The report ends with the names of the tests that failed in this way.
REPORT = re.compile(r"^={79}\n\[(FAIL|ERROR|SUCCESS!\?!|SKIPPED|TODO)\]\n", re.MULTILINE)
#: Where the reports end.
END_OF_REPORTS = re.compile(r"^-{79}\nRan \d+ tests? in ", re.MULTILINE)
#: A module or a class, below which trial shows its tests while the run goes on.
PLACE = re.compile(r"( {0,2})(\w[\w.]*)$")
#: A test, with its mark, or with the beginning of a traceback.
TEST = re.compile(r" {4}(\w+) \.\.\. *(.*)$")
#: The mark of a test that failed. It stands behind the traceback where there is one.
MARK = re.compile(r" *\[(FAIL|ERROR)\]$")
#: What ``.ci/run`` writes after a run that it ended.
CUT_OFF = re.compile(r"^cut off: .*$", re.MULTILINE)
#: What trial writes at its end about a worker that had died.
DEAD_WORKER = re.compile(r"^joining disttrial worker #\d+ failed$", re.MULTILINE)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    What trial wrote about a failure.

    :param kind: trial's word: ``FAIL``, ``ERROR`` or ``SUCCESS!?!``.
    :param tests: the names of the tests that failed in this way.
    :param text: the traceback.
    """

    kind: str
    tests: tuple[str, ...]
    text: str


def outcome_of(output: str) -> Outcome:
    """
    Return how a run ended that wrote this output.

    Its last closing line counts: a test may show the output of another run. A run without one broke off; that, and
    a run that was cut off, counts as one failure where no test failed.
    """
    closings = CLOSING.findall(output)
    if not closings:
        return Outcome(failed=1)
    counts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", closings[-1])}
    failed = sum(counts.get(name, 0) for name in ("failures", "errors", "unexpectedSuccesses"))
    return Outcome(
        passed=counts.get("successes", 0) + counts.get("expectedFailures", 0),
        failed=max(failed, CUT_OFF.search(output) is not None),
        skipped=counts.get("skips", 0),
    )


def reports_of(output: str) -> list[Report]:
    """
    Return trial's reports of failures, in order, without those of skipped tests and of expected failures. Those of a
    run that broke off are what it showed until then.
    """
    ends = [each.start() for each in END_OF_REPORTS.finditer(output)]
    if not ends:
        return list(_shown_until_then(output))
    starts = list(REPORT.finditer(output, 0, ends[-1]))
    limits = [*(each.start() for each in starts[1:]), ends[-1]]
    reports = []
    for start, limit in zip(starts, limits, strict=True):
        text, _, names = output[start.end() : limit].rstrip().rpartition("\n\n")
        reports.append(Report(kind=start[1], tests=tuple(names.split()), text=text))
    return [each for each in reports if each.kind not in ("SKIPPED", "TODO")]


def _shown_until_then(output: str) -> Iterator[Report]:
    """Yield what a run with ``--rterrors`` shows of each failure when it comes."""
    path: list[str] = []
    shown: list[str] = []
    for line in output.split("\n"):
        if place := PLACE.match(line):
            path[len(place[1]) // 2 :] = [place[2]]
        elif test := TEST.match(line):
            path[2:], shown, line = [test[1]], [], test[2]
        if mark := MARK.match(line):
            yield Report(kind=mark[1], tests=(".".join(path),), text="\n".join(shown))
            shown = []
        else:
            shown.append(line)


def total(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the sum of several runs. A run in which nothing passed counts as one more failure."""
    return Outcome(
        passed=sum(outcome.passed for outcome in outcomes),
        failed=sum(max(outcome.failed, not outcome.is_good) for outcome in outcomes),
        skipped=sum(outcome.skipped for outcome in outcomes),
    )


def last_lines(text: str, count: int) -> str:
    """Return the last lines of a text, below a line that says how many are left out."""
    lines = text.rstrip().split("\n")
    left_out = len(lines) - count
    return "\n".join([f"({left_out} lines before)", *lines[left_out:]] if left_out > 0 else lines)


def explain(outputs: Mapping[str, str]) -> Iterator[str]:
    """
    Yield what failed, line by line: the reports of failed tests, then their names and what ended a run.

    :param outputs: what each run wrote, by the run's name.
    """
    reports = [(run, report) for run, output in outputs.items() for report in reports_of(output)]
    for run, report in reports[:SHOWN_REPORTS]:
        yield f"--- {run}: [{report.kind}] {report.tests[0] if report.tests else ''}"
        yield last_lines(report.text, SHOWN_LINES)
    broken_off = {run: output for run, output in outputs.items() if not CLOSING.search(output)}
    for run, output in broken_off.items():
        yield f"--- {run}: the end of its output"
        yield last_lines(output, SHOWN_LINES)
    failed = [
        *(f"{run}: {line}" for run, output in outputs.items() for line in CUT_OFF.findall(output)),
        *(f"{run}: broke off before its end" for run in broken_off),
        *(f"{run}: a worker died" for run, output in outputs.items() for _ in DEAD_WORKER.finditer(output)),
        *(f"{run}: ran no test" for run, output in outputs.items() if outcome_of(output) == Outcome()),
        *(f"{run}: {name}" for run, report in reports for name in report.tests),
    ]
    if failed:
        yield "--- failed:"
        yield from failed[:SHOWN_NAMES]
    if len(failed) > SHOWN_NAMES:
        yield f"and {len(failed) - SHOWN_NAMES} more"


def main(arguments: Sequence[str]) -> int:
    """Print what failed, and the line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m test.outcome")
    parser.add_argument("--stages", default="", metavar="NAMES", help="the stages of .ci/run that failed")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what a run wrote; named after the run")
    options = parser.parse_args(arguments)
    outputs = {
        each.name: each.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n") for each in options.files
    }
    for line in explain(outputs):
        print(line)
    if options.stages:
        print(f"failed stages: {options.stages}")
    outcome = total([outcome_of(output) for output in outputs.values()])
    print(outcome)
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
