"""
The command ``dfvortex``. What a sub-command needs is imported when it runs: ``--help`` loads no reactor.
"""

from __future__ import annotations

from dragonfly_vortex.cli.main import main

__all__ = ["main"]
