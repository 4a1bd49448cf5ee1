"""What a run says of where it ran."""

from __future__ import annotations

import platform

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.machine import this_machine


class MachineTests(SynchronousTestCase):
    """This machine."""

    def test_this_machine(self) -> None:
        """Kernel, interpreter and packages are the ones that run; the machine's name is not told."""
        machine = this_machine()
        self.assertEqual(machine.kernel, f"Linux {platform.release()}")
        self.assertIn(platform.python_version(), machine.python)
        self.assertIn("Twisted", machine.packages)
        self.assertIn("grpcio", machine.packages)
        self.assertGreaterEqual(machine.cores, 1)
        self.assertGreater(machine.memory, 2**28)
        self.assertNotEqual(machine.processor, "")
