"""From the command line to a sub-command, and from how that ended to an exit status."""

from __future__ import annotations

import importlib
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence

from dragonfly_vortex.cli.arguments import make_parser
from dragonfly_vortex.cli.exits import ExitStatus, UsageError, status_of
from dragonfly_vortex.errors import VortexError

__all__ = ["main"]

_COMMANDS = {
    "import": "dragonfly_vortex.cli.stored:import_task",
    "list": "dragonfly_vortex.cli.stored:list_tasks",
    "stat": "dragonfly_vortex.cli.stored:stat_task",
    "export": "dragonfly_vortex.cli.stored:export_task",
    "remove": "dragonfly_vortex.cli.stored:remove_task",
    "download": "dragonfly_vortex.cli.download:download_task",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param arguments: what stands behind ``dfvortex``; None for the process's own.
    :returns: the exit status. An error is one line on standard error.
    """
    namespace = make_parser().parse_args(arguments)
    module, _, name = _COMMANDS[namespace.command].partition(":")
    run: Callable[[Namespace], int] = getattr(importlib.import_module(module), name)
    try:
        status = run(namespace)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read our output has gone, `head` say: nothing is left to tell. Python would try once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.DONE
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except (UsageError, VortexError, OSError) as error:
        print(f"dfvortex: {error}", file=sys.stderr)
        return status_of(error)
