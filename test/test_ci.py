"""What ``.ci/run`` relies on: the command that it takes out of the README, and the result that it reads from trial."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from test.outcome import Outcome, explain, outcome_of, reports_of, total
from test.readme import README, command_that_runs, commands

ROOT = Path(__file__).resolve().parent.parent

LINE = "=" * 79

#: The output of a run in which two tests failed in one way, one was in error and one was skipped.
FAILED_RUN = f"""\
Running 5 tests.
test.test_files
  FileTests
    test_one ...                                                         [FAIL]
    test_two ...                                                           [OK]
  OtherTests
    test_three ...                                                       [FAIL]
    test_four ... ignored
                                                       [ERROR]

{LINE}
[SKIPPED]
no such program

test.test_files.OtherTests.test_five
{LINE}
[FAIL]
Traceback (most recent call last):
  File "a", line 1, in b

twisted.trial.unittest.FailTest: 1 != 2

test.test_files.FileTests.test_one
test.test_files.OtherTests.test_three
{LINE}
[ERROR]
Traceback (most recent call last):
builtins.ValueError: 5

test.test_files.OtherTests.test_four
{"-" * 79}
Ran 5 tests in 0.100s

FAILED (skips=1, failures=2, errors=1, successes=1)
"""

DOCUMENT = """\
Run it:

```sh
twistd -n dfvortex
```

```yaml
-m test: not a command
```

Test it:

```sh
python3 -m venv .venv
python -m test
```
"""


class ReadmeTests(SynchronousTestCase):
    """Commands are taken out of a document as they stand there."""

    def test_commands(self) -> None:
        """Every block of sh is a command, whole; a block of another language is none."""
        self.assertEqual(
            commands(DOCUMENT),
            ["twistd -n dfvortex\n", "python3 -m venv .venv\npython -m test\n"],
        )

    def test_command_that_runs(self) -> None:
        """The command with a given program in it is found."""
        self.assertEqual(command_that_runs("-m test", DOCUMENT), "python3 -m venv .venv\npython -m test\n")

    def test_no_command(self) -> None:
        """A document without the command is an error that says what was sought."""
        error = self.assertRaises(LookupError, command_that_runs, "make", DOCUMENT)
        self.assertIn("'make', found none in 2", str(error))

    def test_readme_has_the_tests(self) -> None:
        """The README's command makes the environment in which the coverage is read afterwards."""
        command = command_that_runs("-m test", README.read_text(encoding="utf-8"))
        self.assertIn("-m venv .venv", command)


class OutcomeTests(SynchronousTestCase):
    """The result of a run is what trial's closing line says."""

    def test_passed(self) -> None:
        """Tests that passed, the expected failures among them, are counted."""
        outcome = outcome_of("Ran 5 tests in 0.1s\n\nPASSED (expectedFailures=1, successes=4)\n")
        self.assertEqual(outcome, Outcome(passed=5))
        self.assertTrue(outcome.is_good)

    def test_failed(self) -> None:
        """Failures, errors and unexpected successes all count as failed."""
        outcome = outcome_of("FAILED (skips=5, failures=1, errors=2, unexpectedSuccesses=3, successes=40)\n")
        self.assertEqual(outcome, Outcome(passed=40, failed=6, skipped=5))
        self.assertFalse(outcome.is_good)

    def test_last_line_counts(self) -> None:
        """The closing line of a run inside a test, shown in the output, is not taken for the run's own."""
        self.assertEqual(outcome_of("PASSED (successes=2)\nFAILED (errors=1)\n"), Outcome(failed=1))

    def test_broken_off(self) -> None:
        """A run that wrote no closing line, whatever else it wrote, has failed."""
        self.assertEqual(outcome_of("test_a ... PASSED (successes=1)\nKilled\n"), Outcome(failed=1))

    def test_nothing_ran(self) -> None:
        """A run of no tests at all is not a good one."""
        outcome = outcome_of("Ran 0 tests in 0.000s\n\nPASSED\n")
        self.assertEqual(outcome, Outcome())
        self.assertFalse(outcome.is_good)

    def test_line(self) -> None:
        """The line names the skipped tests only when there are some."""
        self.assertEqual(str(Outcome(passed=3, failed=1)), "3 passed, 1 failed")
        self.assertEqual(str(Outcome(passed=3, skipped=2)), "3 passed, 0 failed, 2 skipped")

    def test_total(self) -> None:
        """The runs on several Pythons are added up."""
        runs = [Outcome(passed=3, skipped=1), Outcome(passed=2, failed=1)]
        self.assertEqual(total(runs), Outcome(passed=5, failed=1, skipped=1))

    def test_total_with_an_empty_run(self) -> None:
        """A run in which nothing passed is a failure, however many passed in the others."""
        self.assertEqual(total([Outcome(passed=3), Outcome()]), Outcome(passed=3, failed=1))

    def test_cut_off(self) -> None:
        """A run that the script ended has failed, whatever trial wrote."""
        outcome = outcome_of("PASSED (successes=2)\ncut off: by the time limit of 30m\n")
        self.assertEqual(outcome, Outcome(passed=2, failed=1))


class ExplainTests(SynchronousTestCase):
    """The end of the script's output says what failed."""

    def test_reports(self) -> None:
        """A report has all names of the tests that failed in one way; one of a skipped test is left out."""
        reports = reports_of(FAILED_RUN)
        names = [report.tests for report in reports]
        self.assertEqual(
            names,
            [
                ("test.test_files.FileTests.test_one", "test.test_files.OtherTests.test_three"),
                ("test.test_files.OtherTests.test_four",),
            ],
        )
        self.assertEqual([report.kind for report in reports], ["FAIL", "ERROR"])
        self.assertTrue(reports[0].text.endswith("FailTest: 1 != 2"), reports[0].text)

    def test_names_come_last(self) -> None:
        """The names stand below all reports, each with its run's name."""
        lines = list(explain({"tests": "PASSED (successes=2)\n", "pythons-3.10": FAILED_RUN}))
        self.assertEqual(lines[0], "--- pythons-3.10: [FAIL] test.test_files.FileTests.test_one")
        self.assertIn("builtins.ValueError: 5", lines[3])
        self.assertEqual(
            lines[-4:],
            [
                "--- failed:",
                "pythons-3.10: test.test_files.FileTests.test_one",
                "pythons-3.10: test.test_files.OtherTests.test_three",
                "pythons-3.10: test.test_files.OtherTests.test_four",
            ],
        )

    def test_passed(self) -> None:
        """There is nothing to say about runs that passed."""
        self.assertEqual(list(explain({"tests": "PASSED (successes=2)\n"})), [])

    def test_long(self) -> None:
        """The end of a long report is shown, and the first ones of many names."""
        report = "".join(f"line {number}\n" for number in range(200))
        names = "".join(f"test.test_files.FileTests.test_{number}\n" for number in range(40))
        output = f"{LINE}\n[ERROR]\n{report}\n{names}{'-' * 79}\nRan 40 tests in 1.0s\n\nFAILED (errors=40)\n"
        lines = "\n".join(explain({"tests": output})).split("\n")
        self.assertEqual(lines[1:3], ["(140 lines before)", "line 140"])
        self.assertEqual(lines[61], "line 199")
        self.assertEqual(lines[-1], "and 10 more")
        self.assertLess(len(lines), 100)

    def test_broken_off(self) -> None:
        """A run without a closing line is named, with its end and the tests that had failed until then."""
        output = FAILED_RUN[: FAILED_RUN.index(LINE)]
        lines = list(explain({"tests": output}))
        self.assertEqual(
            [line for line in lines if line.startswith("---")],
            [
                "--- tests: [FAIL] test.test_files.FileTests.test_one",
                "--- tests: [FAIL] test.test_files.OtherTests.test_three",
                "--- tests: [ERROR] test.test_files.OtherTests.test_four",
                "--- tests: the end of its output",
                "--- failed:",
            ],
        )
        self.assertEqual(
            lines[-4:],
            [
                "tests: broke off before its end",
                "tests: test.test_files.FileTests.test_one",
                "tests: test.test_files.OtherTests.test_three",
                "tests: test.test_files.OtherTests.test_four",
            ],
        )

    def test_shown_at_once(self) -> None:
        """Of a run that broke off, the tracebacks are those that it showed when the tests failed."""
        output = (
            "test.a\n  A\n    test_x ...   [OK]\n    test_y ... Traceback (most recent call last):\n"
            "  File a, line 1\nbuiltins.ValueError: 5\n[ERROR]\n"
            "test.b\n  B\n    test_x ...   [FAIL]\n    test_z ...   [OK]\n"
        )
        first, second = reports_of(output)
        self.assertEqual((first.kind, first.tests), ("ERROR", ("test.a.A.test_y",)))
        self.assertEqual(first.text, "Traceback (most recent call last):\n  File a, line 1\nbuiltins.ValueError: 5")
        self.assertEqual((second.kind, second.tests, second.text), ("FAIL", ("test.b.B.test_x",), ""))

    def test_cut_off(self) -> None:
        """What ended a run is named first, also where trial wrote its closing line."""
        lines = list(explain({"tests": FAILED_RUN + "cut off: by the time limit of 30m\n"}))
        self.assertEqual(lines[lines.index("--- failed:") + 1], "tests: cut off: by the time limit of 30m")

    def test_dead_worker(self) -> None:
        """A worker that died is named before the tests that failed for that."""
        lines = list(explain({"tests": FAILED_RUN + "joining disttrial worker #1 failed\nTraceback\n"}))
        self.assertEqual(lines[lines.index("--- failed:") + 1], "tests: a worker died")

    def test_no_test(self) -> None:
        """A run of no tests is named."""
        lines = list(explain({"tests": "Ran 0 tests in 0.000s\n\nPASSED\n"}))
        self.assertEqual(lines, ["--- failed:", "tests: ran no test"])


class RunnerTests(SynchronousTestCase):
    """``python -m test``, which the README and the script run."""

    def test_workers(self) -> None:
        """Workers run this project's tests, and not those of another package of the name ``test``."""
        names = ("test.test_files", f"{__name__}.RunnerTests.test_no_path_for_programs")
        ran = subprocess.run(
            [sys.executable, "-m", "test", "--jobs=2", f"--temp-directory={Path(self.mktemp()).absolute()}", *names],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        self.assertTrue(outcome_of(ran.stdout).is_good, ran)

    def test_processors(self) -> None:
        """There are two workers for each processor: where one waits, another works."""
        directory = Path(self.mktemp()).absolute()
        subprocess.run(
            [sys.executable, "-m", "test", f"--temp-directory={directory}", "test.test_geometry"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            preexec_fn=partial(os.sched_setaffinity, 0, [min(os.sched_getaffinity(0))]),
            check=True,
        )
        self.assertEqual(sorted(each.name for each in directory.iterdir() if each.is_dir()), ["0", "1"])

    def test_no_path_for_programs(self) -> None:
        """What a test starts finds its modules as it does outside of a worker."""
        self.assertNotIn("workers", os.environ.get("PYTHONPATH", ""))


class ScriptTests(SynchronousTestCase):
    """The script itself."""

    def test_usage(self) -> None:
        """An unknown stage is refused at once, with the ones there are."""
        script = ROOT / ".ci" / "run"
        self.assertTrue(os.access(script, os.X_OK))
        ran = subprocess.run([script, "deploy"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        self.assertEqual(ran.returncode, 2)
        self.assertIn("[lint|types|tests|pythons]..., got 'deploy'", ran.stderr)

    def run_stage(self, command: str, *, time: str = "5m") -> list[str]:
        """Run the stage of the tests in a checkout whose README has this command, and return the output's lines."""
        checkout, programs = Path(self.mktemp()).absolute(), Path(self.mktemp()).absolute()
        for name in (".ci/run", "test/__init__.py", "test/outcome.py", "test/readme.py"):
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
        (checkout / "README.md").write_text(f"```sh\n{command}  # -m test\n```\n")
        programs.mkdir()
        (programs / "chromedriver").symlink_to("/bin/true")  # nothing is to be installed
        (programs / "python3").symlink_to(sys.executable)
        ran = subprocess.run(
            [checkout / ".ci" / "run", "tests"],
            env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "TIME_FOR_TESTS": time},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        self.assertEqual(ran.returncode, 1, ran)
        return ran.stdout.splitlines()

    def test_end_of_a_failed_run(self) -> None:
        """The names of failed tests and stages stand right before the last line."""
        output = Path(self.mktemp()).absolute()
        output.write_text(FAILED_RUN)
        lines = self.run_stage(f"cat {output}; false")
        self.assertEqual(
            lines[-5:],
            [
                "tests: test.test_files.FileTests.test_one",
                "tests: test.test_files.OtherTests.test_three",
                "tests: test.test_files.OtherTests.test_four",
                "failed stages: tests",
                "1 passed, 3 failed, 1 skipped",
            ],
        )
        self.assertIn("twisted.trial.unittest.FailTest: 1 != 2", lines[-20:])

    def test_time_limit(self) -> None:
        """A run that is cut off by the time limit says so at the end."""
        lines = self.run_stage("echo begins; sleep 600", time="0.1")
        self.assertEqual(
            lines[-5:],
            [
                "--- failed:",
                "tests: cut off: by the time limit of 0.1",
                "tests: broke off before its end",
                "failed stages: tests",
                "0 passed, 1 failed",
            ],
        )
