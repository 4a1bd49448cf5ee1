"""Loads the configuration of a command."""

from __future__ import annotations

import os
import sys

from dragonfly_vortex.cli.text import one_line
from dragonfly_vortex.config import DEFAULT_FILE, Config, load_config

__all__ = ["read_config"]


def read_config(file: str | os.PathLike[str] | None) -> Config:
    """
    Read a configuration, and name keys that may be misspelt on standard error. Other warnings are the daemon's to log.

    :param file: the path; None for the default.
    :raises ConfigError: it cannot be used.
    """
    loaded = load_config(file)
    if loaded.unknown:
        line = f"{file or DEFAULT_FILE}: unknown keys, which are skipped: {', '.join(loaded.unknown)}"
        print(f"dfvortex: {one_line(line)}", file=sys.stderr)
    return loaded.config
