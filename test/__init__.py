"""
The tests of ``dragonfly_vortex``. Run them from the root with ``python -m test``: elsewhere that name is a package of
the standard library.
"""

from __future__ import annotations

import signal
from contextlib import suppress

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs with SIGINT ignored. The processes that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

with suppress(ModuleNotFoundError):  # test.outcome and test.readme need the standard library only
    from dragonfly_vortex import address

    # Both sides of a connection are often in one process, which other processes may keep waiting: two seconds are too
    # few for a handshake then. This comes before any other module takes the value.
    address.CONNECT_TIMEOUT = 60.0
