#!/usr/bin/env bash
# trial of Twisted 26.10.0: `from unittest import skip` in a test module skips every test of the module.
#
# Seen: the run passes, and "<function skip at 0x…>" is the reason. `from contextlib import suppress` makes every test an
# error, "'ABCMeta' object is not iterable". trial looks for the settings `skip` and `suppress` in the method, the class and
# then the module, and takes whatever object has that name. Only tests of trial's own TestCase classes are concerned, also when
# unittest runs them. Under another name (`import skip as skip_test`) both functions work.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check twisted==26.10.0
cd "$work"
"$work/venv/bin/python" --version
"$work/venv/bin/python" -m twisted.trial --version

# A test that succeeds, in a module that begins with the given import.
module() {
    cat >"test_$1.py" <<PYTHON
$2

import unittest

from twisted.trial.unittest import SynchronousTestCase


class TrialTests(SynchronousTestCase):
    def test_one(self):
        pass


class PlainTests(unittest.TestCase):
    def test_one(self):
        pass
PYTHON
}
# What a runner says last about a module, and whether it succeeded.
run() {
    local status=0
    "$work/venv/bin/python" -m "$1" "test_$2" >out 2>&1 || status=$?
    echo "$1, $2: $(tail -n 1 out), exit status $status"
}
expect() {
    local seen
    seen="$(run "$1" "$2")"
    echo "$seen"
    if [ "$seen" != "$1, $2: $3" ]; then
        echo "changed: $1 should say of $2: $3"
        exit 1
    fi
}
module skip 'from unittest import skip'
module suppress 'from contextlib import suppress'
module renamed 'from contextlib import suppress as no_error; from unittest import skip as skip_test'

expect twisted.trial renamed 'PASSED (successes=2), exit status 0'
expect twisted.trial skip 'PASSED (skips=1, successes=1), exit status 0'
expect unittest skip 'OK (skipped=1), exit status 0'
expect twisted.trial suppress 'FAILED (errors=1, successes=1), exit status 1'
grep -m 1 "'ABCMeta' object is not iterable" out
