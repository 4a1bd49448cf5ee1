"""
Test a program of yours against a swarm in memory: here, that a child gets a task in spite of a liar, in simulated time.
"""

from __future__ import annotations

import os

from dragonfly_vortex.events import ParentDropped
from dragonfly_vortex.testing.contract_parent import Fault
from dragonfly_vortex.testing.memory_swarm import MemorySwarm


def main():
    swarm = MemorySwarm(os.urandom(1_000_000), piece_length=65_536, rate=1e6)
    swarm.add_seed("honest")
    swarm.add_seed("liar", fault=Fault.WRONG_BYTE)
    child = swarm.add_child("child", ["liar", "honest"])
    swarm.run(child)
    dropped = [event.parent for event in child.events if isinstance(event, ParentDropped)]
    print(child.content == swarm.content, "without", *dropped, f"in {swarm.clock.seconds():.1f} s")


if __name__ == "__main__":
    main()
