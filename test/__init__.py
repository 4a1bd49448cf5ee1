"""
The tests of ``dragonfly_vortex``. Run them from the root with ``python -m twisted.trial test``: the installed ``trial``
finds the standard library's package of the same name.
"""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs with SIGINT ignored. The processes that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
