"""Completion for shells and the man page, in the programs that read them."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dragonfly_vortex.cli.shell_files import main, write_shell_files
from test.cli.test_arguments import sub_commands


class ShellFileTests(SynchronousTestCase):
    """The files, written once for each test."""

    def setUp(self) -> None:
        self.prefix = Path(self.mktemp()).absolute()
        self.files = {path.suffix or path.name: path for path in write_shell_files(self.prefix)}

    def program(self, name: str) -> str:
        """The path of a program; skips the test where there is none."""
        found = shutil.which(name)
        if found is None:
            raise SkipTest(f"no {name} here")
        return found

    def test_places(self) -> None:
        """The files are where shells and ``man`` look for them below a prefix."""
        self.assertEqual(
            sorted(str(path.relative_to(self.prefix)) for path in self.files.values()),
            [
                "share/bash-completion/completions/dfvortex",
                "share/fish/vendor_completions.d/dfvortex.fish",
                "share/man/man1/dfvortex.1",
                "share/zsh/site-functions/_dfvortex",
            ],
        )
        self.patch(sys, "stdout", told := io.StringIO())
        self.assertEqual(main([str(self.prefix / "again")]), 0)
        self.assertEqual(len(told.getvalue().splitlines()), 4)
        self.assertEqual(len([path for path in (self.prefix / "again").rglob("*") if path.is_file()]), 4)

    def test_without_the_extra(self) -> None:
        """Without the packages of the extra one line says how to install them."""
        for package in ("shtab", "argparse_manpage"):
            program = (
                f"import sys; sys.modules[{package!r}] = None; "
                "from dragonfly_vortex.cli.shell_files import main; main()"
            )
            ran = subprocess.run([sys.executable, "-c", program, self.prefix / "none"], capture_output=True, text=True)
            self.assertEqual((ran.returncode, ran.stdout, len(ran.stderr.splitlines())), (1, "", 1), ran.stderr)
            self.assertIn("pip install 'dragonfly-vortex[shell]'", ran.stderr)
        self.assertFalse((self.prefix / "none").exists())

    def test_syntax(self) -> None:
        """Each shell that is here reads its file without an error."""
        for shell, name in (("bash", "dfvortex"), ("zsh", "_dfvortex"), ("fish", ".fish")):
            if shutil.which(shell) is not None:
                ran = subprocess.run([shell, "-n", self.files[name]], capture_output=True, text=True)
                self.assertEqual((ran.returncode, ran.stderr), (0, ""), shell)

    def typed(self, text: str) -> str:
        """What stands on the line of a Bash where that text and a tabulator were typed."""
        directory = self.prefix / "work"
        directory.mkdir(exist_ok=True)
        directory.joinpath("a-model.bin").touch()
        terminal, its_end = pty.openpty()
        with subprocess.Popen(
            [self.program("bash"), "--norc", "--noprofile", "-i"],
            stdin=its_end,
            stdout=its_end,
            stderr=its_end,
            cwd=directory,
            env={"PATH": os.environ["PATH"], "TERM": "dumb", "PS1": "ready>", "HISTFILE": "/dev/null"},
            start_new_session=True,
        ) as bash:
            os.close(its_end)
            try:
                self.read_until(terminal, "ready>")
                os.write(terminal, f"source {self.files['dfvortex']}\n".encode())
                self.read_until(terminal, "ready>")
                os.write(terminal, f"{text}\t#end\n".encode())
                shown = self.read_until(terminal, "#end")
            finally:
                bash.kill()
                os.close(terminal)
        return shown.replace("\x07", "").partition("#end")[0]

    def read_until(self, terminal: int, text: str) -> str:
        """What a terminal shows, up to a text."""
        shown = ""
        while text not in shown:
            if not select.select([terminal], [], [], 60.0)[0]:
                self.fail(f"expected {text!r}, got {shown!r}")
            shown += os.read(terminal, 65536).decode()
        return shown

    def test_bash(self) -> None:
        """A real Bash completes a command, an option, a value that is one of some words, and the name of a file."""
        for text, expected in (
            ("dfvortex downl", "dfvortex download "),
            ("dfvortex download --conc", "dfvortex download --concurrency "),
            ("dfvortex download --progress js", "dfvortex download --progress jsonl "),
            ("dfvortex import --kind persistent-", "dfvortex import --kind persistent-cache "),
            ("dfvortex import a-mo", "dfvortex import a-model.bin "),
        ):
            self.assertEqual(self.typed(text).rstrip(), expected.rstrip())

    def test_man_page(self) -> None:
        """``man`` renders the page without a warning; each command, option, variable and status is in it."""
        page = self.files[".1"]
        environment = {**os.environ, "MANWIDTH": "200", "MAN_KEEP_FORMATTING": ""}
        ran = subprocess.run(
            [self.program("man"), "--warnings", "-l", page], capture_output=True, text=True, env=environment
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        shown = " ".join(re.sub("\u2010\\n *", "", ran.stdout).split())
        for name, parser in sub_commands().items():
            self.assertIn(f"dfvortex {name}", shown)
            for action in parser._actions:
                if "--help" not in action.option_strings:
                    for option in action.option_strings:
                        self.assertIn(option, shown)
        for part in ("DFGET_TIMEOUT", "EXIT STATUS", "digest mismatch", "dfvortex export TASK_ID -O exported.bin"):
            self.assertIn(part, shown)

    def test_narrow_man_page(self) -> None:
        """At 80 columns no word is cut, and the usage of a command stands as the command itself shows it."""
        environment = {**os.environ, "MANWIDTH": "80", "MAN_KEEP_FORMATTING": ""}
        shown = subprocess.run(
            [self.program("man"), "-l", self.files[".1"]], capture_output=True, text=True, env=environment
        ).stdout
        self.assertNotIn("\u2010\n", shown)
        lines = [line.strip() for line in shown.splitlines()]
        for name, parser in sub_commands().items():
            usage = [line.strip() for line in parser.format_usage().splitlines()]
            at = lines.index(usage[0])
            self.assertEqual(lines[at : at + len(usage)], usage, name)

    def test_lint(self) -> None:
        """``mandoc`` finds no error in the page."""
        ran = subprocess.run(
            [self.program("mandoc"), "-T", "lint", "-W", "error", self.files[".1"]], capture_output=True
        )
        self.assertEqual((ran.returncode, ran.stdout), (0, b""))
