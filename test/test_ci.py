"""What ``.ci/run`` relies on: the command that it takes out of the README, and the result that it reads from trial."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from test.outcome import Outcome, outcome_of, total
from test.readme import README, command_that_runs, commands

ROOT = Path(__file__).resolve().parent.parent

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
    """The script itself can be started."""

    def test_usage(self) -> None:
        """An unknown stage is refused at once, with the ones there are."""
        script = ROOT / ".ci" / "run"
        self.assertTrue(os.access(script, os.X_OK))
        ran = subprocess.run([script, "deploy"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        self.assertEqual(ran.returncode, 2)
        self.assertIn("[lint|types|tests|pythons]..., got 'deploy'", ran.stderr)
