"""Programs that are started as processes in a turn. What they import is in the time, or in the start-up."""

from __future__ import annotations
