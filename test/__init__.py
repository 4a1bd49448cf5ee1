"""
The tests of ``dragonfly_vortex``. Run them from the root with ``python -m test``: elsewhere that name is a package of
the standard library.
"""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs with SIGINT ignored. The processes that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
