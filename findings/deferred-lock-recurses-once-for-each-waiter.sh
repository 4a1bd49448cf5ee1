#!/usr/bin/env bash
# Twisted 26.10.0: DeferredLock.release and DeferredSemaphore.release begin the next waiter's work from inside themselves, so that waiters
# whose work is done at once go one deeper each.
#
# Seen: of 100 waiters all are served. Of 200, and of 400, 123 are, one fails with RecursionError, which is that of the lock and not of
# its own work, and the others have not fired when release returns. It is the same for functions and for coroutines.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check twisted==26.10.0
cat >"$work/lock.py" <<'PYTHON'
import sys

import twisted
from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore
from twisted.python.failure import Failure

print("Twisted", twisted.__version__, "Python", sys.version.split()[0])


async def coroutine():
    pass


WORKS = {"function": lambda: None, "coroutine": lambda: Deferred.fromCoroutine(coroutine())}
LOCKS = {"DeferredLock": DeferredLock, "DeferredSemaphore": lambda: DeferredSemaphore(1)}
failed = False
for name, make in LOCKS.items():
    for kind, work in WORKS.items():
        for waiters in (100, 200, 400):
            lock, first, ended = make(), Deferred(), []
            lock.run(lambda: first)
            for _ in range(waiters):
                lock.run(work).addBoth(ended.append)
            first.callback(None)
            errors = [each.type.__name__ for each in ended if isinstance(each, Failure)]
            print(f"{name}, {kind}, {waiters} waiters: {len(ended)} have ended, {errors} among them")
            all_ended = len(ended) == waiters and not errors
            failed |= all_ended if waiters > 100 else not all_ended
            failed |= waiters > 100 and errors != ["RecursionError"]
if failed:
    sys.exit("changed: expected all of 100, and a RecursionError from 200 on")
PYTHON
"$work/venv/bin/python" "$work/lock.py"
