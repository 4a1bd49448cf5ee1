#!/usr/bin/env bash
# Twisted 26.10.0: `trial -j` runs no test of a top-level package that is called `test`.
#
# Seen: `python -m twisted.trial test` passes; with `-j2` each test is an error, "… does not exist". A worker is started
# as a script inside twisted/trial/_dist, so that folder comes first in its sys.path, and twisted/trial/_dist/test is
# imported in place of the project's package. With PYTHONSAFEPATH=1 (Python 3.11) and the root in PYTHONPATH it passes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check twisted==26.10.0
mkdir "$work/test"
touch "$work/test/__init__.py"
cat >"$work/test/test_one.py" <<'PYTHON'
from twisted.trial.unittest import SynchronousTestCase


class OneTests(SynchronousTestCase):
    def test_true(self):
        self.assertTrue(True)
PYTHON
cd "$work"
"$work/venv/bin/python" --version
run() { "$work/venv/bin/python" -m twisted.trial "$@" test 2>&1; }

run >one
grep -q '^PASSED (successes=1)' one && echo "one process: passed"

if run -j2 >two; then
    echo "changed: trial -j2 finds the project's package"
    exit 1
fi
grep -q 'test.test_one.OneTests.test_true does not exist' two && echo "two processes: $(grep '^FAILED' two)"

if "$work/venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    export PYTHONSAFEPATH=1 PYTHONPATH="$work"
    run -j2 >safe
    grep -q '^PASSED (successes=1)' safe && echo "two processes, PYTHONSAFEPATH=1: passed"
fi
