"""Options that contradict each other, or have no effect together: a command line with them is refused."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dragonfly_vortex.cli.exit_status import ExitStatus
from dragonfly_vortex.cli.terminal import drop_output, flush_output
from dragonfly_vortex.cli.values import STDOUT
from dragonfly_vortex.errors import OutputError
from dragonfly_vortex.model import BackToSource
from dragonfly_vortex.transport_table import is_url
from dragonfly_vortex.wire import PieceKind

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

__all__ = ["RULES", "CheckedParser", "Rule"]


class Rule(Struct, frozen=True):
    """
    A rule that says when options have no effect.

    :param options: their long names.
    :param holds: whether the rule holds for the arguments of a command. Those that are not typed are None.
    :param reason: what stands behind "has no effect".
    """

    options: tuple[str, ...]
    holds: Callable[[Namespace], bool]
    reason: str


_OF_SOURCE = ("--header", "--hf-token", "--hf-base-url")
"""The options that say how the source is asked, and no more."""

_OF_ID = ("--tag", "--application", "--revision", "--filtered-query-param", "--piece-length", "--hf-revision")
"""The options that are part of the ID of a standard task."""

_OF_OBJECT = ("--storage-region", "--storage-endpoint")

_TEXT_OF_ID = "--content-for-calculating-task-id"

_POLICY = ("--back-to-source", "--disable-back-to-source")


def _is_never(typed: Namespace) -> bool:
    return bool(typed.disable_back_to_source) or typed.back_to_source is BackToSource.NEVER


def _is_hub(typed: Namespace) -> bool:
    return bool(typed.task_id.lower().startswith("hf://"))


def _names_revision(typed: Namespace) -> bool:
    """Whether the URL of a hub has a revision, as ``hf://owner/repository@v1/file`` has."""
    return re.match(r"(?i)hf://(models/|datasets/|spaces/)?[^/@]+/[^/@]+@", typed.task_id) is not None


_NEVER_PERSISTENT = Rule(
    (_TEXT_OF_ID,),
    lambda typed: typed.kind is PieceKind.PERSISTENT,
    "with --kind persistent, whose task IDs are made from URL, region and endpoint",
)

RULES = {
    "download": (
        Rule(
            (*_OF_SOURCE, *_OF_ID, *_OF_OBJECT, _TEXT_OF_ID, *_POLICY),
            lambda typed: not is_url(typed.task_id) and "/" not in typed.task_id,  # as other URLs have
            "with a task ID: expected the URL of a source with it",
        ),
        Rule(
            ("--hf-token", "--hf-revision", "--hf-base-url"),
            lambda typed: not _is_hub(typed),
            "with this URL: expected one that begins with hf://",
        ),
        Rule(("--hf-revision",), lambda typed: typed.revision is not None, "with --revision, which overrides it"),
        Rule(("--hf-revision",), _names_revision, "with this URL, which names a revision itself"),
        Rule(
            ("--disable-back-to-source",),
            lambda typed: typed.back_to_source not in (None, BackToSource.NEVER),
            "with --back-to-source, which says the contrary: expected one of both",
        ),
        Rule(_OF_SOURCE, _is_never, "where the source is never asked (--back-to-source never)"),
        Rule(
            _OF_OBJECT,
            lambda typed: typed.kind is not PieceKind.PERSISTENT and not typed.task_id.lower().startswith("s3://"),
            "without --kind persistent and without an s3:// URL",
        ),
        _NEVER_PERSISTENT,
        Rule(("--overwrite",), lambda typed: typed.output is None, "without --output"),
        Rule(("--overwrite", "--no-sync"), lambda typed: typed.output == STDOUT, "with standard output"),
        Rule(
            ("--no-progress", "--quiet"),
            lambda typed: typed.progress == "bar",
            "with --progress bar, which says the contrary: expected one of both",
        ),
    ),
    "import": (
        Rule(
            ("--dragonfly-id",),
            lambda typed: typed.task_id is not None,
            "with --task-id, which overrides it: expected one of both",
        ),
        Rule(_OF_OBJECT, lambda typed: typed.kind is not PieceKind.PERSISTENT, "without --kind persistent"),
        _NEVER_PERSISTENT,
    ),
    "export": (Rule(("--overwrite",), lambda typed: typed.output == STDOUT, "with standard output"),),
    "probe": (Rule(("--kind",), lambda typed: typed.task is None, "without --task"),),
}
"""By the name of the sub-command."""


class CheckedParser(ArgumentParser):
    """
    A parser, which for a sub-command that :data:`RULES` names refuses what has no effect. Where its help cannot be
    written, it says so, which argparse does not.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """See ``ArgumentParser``."""
        found, rest = super().parse_known_args(args, namespace)
        rules = RULES.get(self.prog.rpartition(" ")[2], ())
        if rules:
            # Once more, without defaults: what has a value already gets none. A variable of the environment is there
            # for all commands, and may have no effect on one.
            unset = Namespace(**dict.fromkeys(action.dest for action in self._actions))
            typed, _ = super().parse_known_args(args, unset)
            options = {name for each in self._actions if vars(typed)[each.dest] for name in each.option_strings}
            for rule in rules:
                useless = [option for option in rule.options if option in options]
                if useless and rule.holds(typed):
                    self.error(f"{useless[0]} has no effect {rule.reason}")
        return found, rest

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        if file is None or file is not sys.stdout:
            super()._print_message(message, file)
            return
        try:
            flush_output(message)
        except BrokenPipeError:
            drop_output()
        except OutputError as error:
            drop_output()
            self.exit(ExitStatus.FAILED, f"{self.prog}: {error}\n")
