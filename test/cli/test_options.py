"""The options of several sub-commands."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from test.cli.test_arguments import sub_commands


class CommonTests(SynchronousTestCase):
    """All parsers together."""

    def test_same_everywhere(self) -> None:
        """An option of one name takes the same kind of value in each command that has it."""
        seen: dict[str, tuple[str, object]] = {}
        for name, parser in sub_commands().items():
            for action in parser._actions:
                for option in action.option_strings:
                    metavar = str(action.metavar).removesuffix("|none")  # a digest that is verified need not be none
                    before = seen.setdefault(option, (name, metavar))
                    self.assertEqual(before[1], metavar, (option, name, before[0]))
