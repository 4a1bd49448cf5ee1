#!/usr/bin/env bash
# Twisted 26.10.0: deferToThreadPool() raises where the system starts no thread. It returns no failed Deferred.
#
# Seen: with a pool whose thread cannot be started (RLIMIT_NPROC or a cgroup's pids.max does that; here the pool's own
# threadFactory), deferToThreadPool() raises the RuntimeError of threading.Thread.start() at its caller. The function
# that was handed over is lost: when a thread can be started later, the pool runs the next function and not this one.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check twisted==26.10.0
cat >"$work/pool.py" <<'PYTHON'
import sys
import threading

import twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

print("Twisted", twisted.__version__, "Python", sys.version.split()[0])
ran = []
refuse = True


def thread(*arguments, **options):
    if refuse:
        raise RuntimeError("can't start new thread")
    return threading.Thread(*arguments, **options)


class Pool(ThreadPool):
    threadFactory = staticmethod(thread)


pool = Pool(0, 1)
pool.start()
try:
    deferToThreadPool(reactor, pool, ran.append, "first")
except RuntimeError as error:
    print("raised at the caller:", error)
else:
    sys.exit("changed: a Deferred was returned")
refuse = False


def ended(_):
    print("ran when a thread could be started:", *ran)
    reactor.stop()


reactor.callWhenRunning(lambda: deferToThreadPool(reactor, pool, ran.append, "second").addBoth(ended))
reactor.run()
pool.stop()
if ran != ["second"]:
    sys.exit(f"changed: expected the second function alone to run, got {ran}")
PYTHON
"$work/venv/bin/python" "$work/pool.py"
