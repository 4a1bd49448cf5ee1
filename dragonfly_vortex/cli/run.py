"""Runs the sub-command that the command line names, and turns its result into an exit status."""

from __future__ import annotations

import gc
import importlib
import io
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from dragonfly_vortex.cli.exit_status import STATUS_OF_SIGNAL, ExitStatus, on_signals, status_of
from dragonfly_vortex.cli.terminal import drop_output, end_output, flush_output, one_line
from dragonfly_vortex.errors import OutputExists, VortexError
from dragonfly_vortex.system_calls import reason_of

__all__ = ["run"]

_COMMANDS = {
    "import": "dragonfly_vortex.cli.storage_commands:import_task",
    "list": "dragonfly_vortex.cli.storage_commands:list_tasks",
    "stat": "dragonfly_vortex.cli.storage_commands:stat_task",
    "export": "dragonfly_vortex.cli.storage_commands:export_task",
    "verify": "dragonfly_vortex.cli.storage_commands:verify_tasks",
    "remove": "dragonfly_vortex.cli.storage_commands:remove_task",
    "gc": "dragonfly_vortex.cli.storage_commands:collect_garbage",
    "download": "dragonfly_vortex.cli.download:download_task",
    "probe": "dragonfly_vortex.cli.probe:probe",
    "decode": "dragonfly_vortex.cli.decode:decode",
}


def run(arguments: Sequence[str] | None = None) -> int:
    """See :func:`dragonfly_vortex.cli.main`, which has turned the collector of garbage off."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if isinstance(sys.stdout.buffer, io.RawIOBase):  # of python -u, which passes over what a full disk cuts off
            sys.stdout = os.fdopen(sys.stdout.fileno(), "w", encoding=sys.stdout.encoding, closefd=False)
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file need not be text
    on_signals(_terminate, signal.SIGTERM, signal.SIGHUP)
    from dragonfly_vortex.cli.arguments import make_parser  # it takes time, and a signal may come

    words = sys.argv[1:] if arguments is None else arguments
    namespace = make_parser(words[0] if words else None).parse_args(arguments)
    try:
        command = _command(namespace)
        gc.freeze()  # now, and at exit, the collector passes over what is loaded
        gc.enable()
        status = command(namespace)
        flush_output()
        return status
    except BrokenPipeError:
        drop_output()  # the reader, such as `head`, has ended: there is nothing left to write
        return ExitStatus.DONE
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except (VortexError, OSError) as error:
        is_told = _tell_as_json(namespace, error)
        end_output()  # it may be the output that could not be written
        if isinstance(error.__cause__, BrokenPipeError):  # of --output -
            return ExitStatus.DONE
        is_file = isinstance(error, OutputExists) and not os.path.isdir(namespace.output)
        hint = " (--overwrite replaces a file)" if is_file else ""
        if not is_told:
            print(f"dfvortex: {one_line(reason_of(error))}{hint}", file=sys.stderr)
        return status_of(error)


def _tell_as_json(namespace: Namespace, error: BaseException) -> bool:
    """
    Add an error to the lines of JSON, where a command writes such lines.

    :returns: whether standard error has these lines, and is to have no others.
    """
    if getattr(namespace, "progress", "") != "jsonl":
        return False
    from dragonfly_vortex.cli.report import print_json
    from dragonfly_vortex.cli.values import STDOUT

    with suppress(OSError):
        print_json(namespace, event="error", text=reason_of(error), status=int(status_of(error)))
    return bool(namespace.output == STDOUT)


def _command(namespace: Namespace) -> Callable[[Namespace], int]:
    """
    Return the function that runs a sub-command. Before that, check that there are enough descriptors.

    :raises TooFewDescriptors: there are not.
    """
    from dragonfly_vortex.daemon import rlimits  # which --help does without

    count = rlimits.COMMAND_DESCRIPTORS
    if namespace.command == "download":
        count = rlimits.DOWNLOAD_DESCRIPTORS + (rlimits.STORING_DESCRIPTORS if namespace.store else 0)
    rlimits.open_standard_streams()
    rlimits.require_descriptors(count)
    module, _, name = _COMMANDS[namespace.command].partition(":")
    command: Callable[[Namespace], int] = getattr(importlib.import_module(module), name)
    return command


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """End as by an error, so that no temporary is left; ``download`` does so by itself."""
    sys.exit(STATUS_OF_SIGNAL[signal.Signals(number)])
