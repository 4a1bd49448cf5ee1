#!/usr/bin/env bash
# Twisted 26.10.0: the import of twisted.internet.endpoints removes LISTEN_PID and LISTEN_FDS from the environment.
#
# A class attribute of the parser for "systemd:" calls ListenFDs.fromEnvironment(), which removes the variables by
# default. Seen: a program that asks for systemd's sockets itself gets one descriptor before that import, and none after
# it. LISTEN_FDNAMES alone stays.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check twisted==26.10.0
cat >"$work/sockets.py" <<'PYTHON'
import os
import sys

import twisted
from twisted.python.systemd import ListenFDs

handed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "peer"}
os.environ.update(handed)
before = ListenFDs.fromEnvironment(dict(os.environ)).inheritedDescriptors()
import twisted.internet.endpoints  # noqa: E402, F401

left = sorted(set(handed) & set(os.environ))
after = ListenFDs.fromEnvironment().inheritedDescriptors()
print("Twisted", twisted.__version__, "Python", sys.version.split()[0])
print("before the import:", before, "| after it:", after, "| variables left:", *left)
if (before, after, left) != ([3], [], ["LISTEN_FDNAMES"]):
    sys.exit("changed: expected [3], then [], and LISTEN_FDNAMES alone")
PYTHON
"$work/venv/bin/python" "$work/sockets.py"
