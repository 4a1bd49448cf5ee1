"""
``python -m benchmarks.programs.busy``: read a task's pieces over several connections, from the first again and again,
until standard input ends. It says ``flowing`` when bytes have arrived on each connection, and at the end, as JSON, for
how many seconds it has read since then and how many bytes have arrived on each.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from itertools import cycle

from benchmarks.client import WIRE_FORMATS, Reader, learn

_NICE = 5
"""Less urgent than the process that measures: the scheduler is not what is to be seen."""


def main() -> None:
    """Run the program; its arguments are a port, a task's ID, the task's bytes, a piece's bytes and the connections."""
    os.nice(_NICE)
    port, content_length, piece_length, connections = (int(sys.argv[at]) for at in (1, 3, 4, 5))
    exchanges = learn(port, WIRE_FORMATS["vortex"](sys.argv[2]), content_length, piece_length, sys.argv[2])
    with Reader(port, connections, cycle(exchanges)) as reader:
        reader.read(lambda: all(reader.received.values()))
        before, began = dict(reader.received), time.monotonic()
        print("flowing", flush=True)
        reader.read(lambda: bool(select.select([sys.stdin], [], [], 0)[0]))
        received = [reader.received[each] - before[each] for each in before]
        print(json.dumps({"seconds": time.monotonic() - began, "received": received}))


if __name__ == "__main__":
    main()
