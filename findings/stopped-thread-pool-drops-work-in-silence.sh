#!/usr/bin/env bash
# Twisted 26.10.0: a stopped ThreadPool takes work and drops it; the Deferred of deferToThreadPool() never fires.
#
# Seen: after ThreadPool.stop(), callInThreadWithCallback() returns at once. It raises nothing, starts no thread, and
# does not call the function or its callback. deferToThreadPool() therefore returns a Deferred without an end: what
# awaits it, such as the stop of a service, hangs.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check twisted==26.10.0
cat >"$work/stopped.py" <<'PYTHON'
import sys

import twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

print("Twisted", twisted.__version__, "Python", sys.version.split()[0])
pool = ThreadPool(1, 1)
ran, called, results = [], [], []


def begin():
    pool.start()
    deferToThreadPool(reactor, pool, ran.append, "before").addBoth(results.append)
    reactor.callLater(0.5, after_the_stop)


def after_the_stop():
    pool.stop()
    pool.callInThreadWithCallback(lambda ok, result: called.append(ok), ran.append, "called")
    deferToThreadPool(reactor, pool, ran.append, "deferred").addBoth(results.append)
    reactor.callLater(2, end)


def end():
    print("ran:", ran, "callbacks of the pool:", called, "results:", results)
    reactor.stop()


reactor.callWhenRunning(begin)
reactor.run()
sys.exit(0 if (ran, called, results) == (["before"], [], [None]) else 1)
PYTHON
"$work/venv/bin/python" "$work/stopped.py"
