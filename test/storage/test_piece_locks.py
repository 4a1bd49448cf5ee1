"""Tests of claims: real locks, by several owners in this process and in others, one of which is killed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.storage.claim_records import claims_path, is_claimed
from dragonfly_vortex.storage.locks import lock_byte
from dragonfly_vortex.storage.piece_locks import TAKE_OVER_AFTER, Claims, sweep_claims
from dragonfly_vortex.wire import PieceKind

_OWNER = """
import pathlib, sys
from dragonfly_vortex.storage.piece_locks import Claims
claims = Claims(pathlib.Path(sys.argv[1]), by_piece=sys.argv[2] == "by piece")
claims.open()
print(claims.claim(7), flush=True)
sys.stdin.read()
"""

_TAKER = """
import pathlib, sys
from dragonfly_vortex.storage.piece_locks import Claims
claims = Claims(pathlib.Path(sys.argv[1]))
claims.open()
"""


class ClaimsTestCase(SynchronousTestCase):
    """A file of locks that several owners open."""

    by_piece = True

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.path = claims_path(self.directory, PieceKind.CACHE, "abcd")

    def owner(self) -> Claims:
        """One more owner in this process."""
        claims = Claims(self.path, by_piece=self.by_piece)
        claims.open()
        self.addCleanup(claims.close)
        return claims

    def process(self) -> subprocess.Popen[str]:
        """An owner in another process, that has claimed piece 7."""
        how = "by piece" if self.by_piece else "whole"
        process = subprocess.Popen(
            [sys.executable, "-c", _OWNER, str(self.path), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        stdout = process.stdout
        self.assertEqual(stdout and stdout.readline(), "True\n")
        return process


class ClaimsTests(ClaimsTestCase):
    """Pieces that are claimed one by one."""

    def test_owner(self) -> None:
        """The file says which process has claimed a piece, and whether it goes on."""
        first, second = self.owner(), self.owner()
        self.assertIsNone(second.owner(7))
        first.claim(7)
        first.claim(9)
        said = second.owner(7)
        self.assertEqual((said or (0, 0))[0], os.getpid())
        self.assertEqual(second.owner(7), said)
        first.renew()
        self.assertNotEqual(second.owner(7), said)
        first.release(7)
        said = second.owner(7)
        first.renew()
        self.assertEqual(second.owner(7), said)

    def test_one_owner(self) -> None:
        """A piece is claimed by one of two owners in one process, until that one gives it back; others are free."""
        first, second = self.owner(), self.owner()
        self.assertEqual((first.claim(3), second.claim(3), second.claim(4), first.claim(3)), (True, False, True, True))
        first.release(3)
        self.assertEqual((second.claim(3), first.claim(3)), (True, False))

    def test_biggest_number(self) -> None:
        """Any number that a piece can have can be claimed, and is not the byte of a process's presence."""
        first, second = self.owner(), self.owner()
        self.assertEqual((first.claim((1 << 32) - 1), second.claim((1 << 32) - 1)), (True, False))

    def test_close(self) -> None:
        """Closing gives up all claims of that owner, and no other's."""
        first, second, third = self.owner(), self.owner(), self.owner()
        self.assertTrue(first.claim(1) and second.claim(2))
        first.close()
        first.close()
        self.assertEqual((third.claim(1), third.claim(2)), (True, False))

    def test_killed(self) -> None:
        """What another process has claimed is free the moment that it is killed."""
        process, claims = self.process(), self.owner()
        self.assertEqual((claims.claim(7), claims.claim(8)), (False, True))
        process.kill()
        process.wait()
        self.assertTrue(claims.claim(7))

    def test_alone(self) -> None:
        """An owner knows whether there are others, claims or no claims; asking changes nothing."""
        first = self.owner()
        self.assertTrue(first.is_alone() and first.is_alone())
        second = self.owner()
        self.assertFalse(first.is_alone() or second.is_alone())
        second.close()
        self.assertTrue(first.is_alone())
        process = self.process()
        self.assertFalse(first.is_alone())
        process.kill()
        process.wait()
        self.assertTrue(first.is_alone())

    def test_file(self) -> None:
        """The file goes with the last owner; what a killed one left is swept away, and what is in use is not."""
        first, second = self.owner(), self.owner()
        first.close()
        self.assertTrue(self.path.exists())
        second.close()
        self.assertFalse(self.path.exists())
        process = self.process()
        sweep_claims(self.directory, PieceKind.CACHE, "abcd")
        self.assertTrue(self.path.exists())
        process.kill()
        process.wait()
        self.assertTrue(self.path.exists())
        sweep_claims(self.directory, PieceKind.CACHE, "abcd")
        self.assertFalse(self.path.exists())
        sweep_claims(self.directory, PieceKind.CACHE, "abcd")
        self.assertEqual(os.listdir(self.path.parent), [])


class TakeOverTests(ClaimsTestCase):
    """Pieces whose holder does not show that it runs."""

    def setUp(self) -> None:
        super().setUp()
        self.now = 0.0

    def looking_owner(self) -> Claims:
        """An owner with a time of the test's."""
        claims = Claims(self.path, by_piece=self.by_piece, clock=lambda: self.now)
        claims.open()
        self.addCleanup(claims.close)
        return claims

    def is_frozen(self, claims: Claims, seconds: float = TAKE_OVER_AFTER, number: int = 7) -> bool:
        """Whether a holder is thought to be frozen, once it has been looked at every second for a while."""
        claims.is_frozen(number)
        for _ in range(int(seconds)):
            self.now += 1
            is_frozen = claims.is_frozen(number)
        return is_frozen

    def test_taken_over(self) -> None:
        """A piece is taken over after some seconds without a beat, by one, and the holder has lost it for good."""
        first, second, third = self.owner(), self.looking_owner(), self.looking_owner()
        first.claim(7)
        held = first.lock(7)
        assert held is not None
        self.assertFalse(second.claim(7) or self.is_frozen(second, TAKE_OVER_AFTER - 1))
        self.assertTrue(self.is_frozen(second, 1) and self.is_frozen(third))
        self.assertTrue(held.is_held())
        self.assertTrue(second.take_over(7))
        self.assertFalse(held.is_held() or third.take_over(7) or third.claim(7) or first.claim(7))
        second.close()
        self.assertFalse(held.is_held())
        self.assertEqual((first.lost(), third.claim(7), third.lost()), ([], True, []))

    def test_claim_shows_itself(self) -> None:
        """A claim is written down alone: those before it show with the next beat that their holder runs."""
        first, second = self.owner(), self.owner()
        first.claim(7)
        said = second.owner(7)
        first.claim(9)
        self.assertEqual(second.owner(7), said)
        first.renew()
        self.assertNotEqual(second.owner(7), said)

    def test_given_back(self) -> None:
        """Giving back tells whether the piece had been taken over, once."""
        first, second = self.owner(), self.looking_owner()
        first.claim(6)
        first.claim(7)
        self.is_frozen(second)
        second.take_over(7)
        self.assertEqual(first.lost(), [7])
        self.assertEqual((first.release(6), first.release(7), first.release(7)), (False, True, False))

    def test_runs(self) -> None:
        """The piece of a holder that runs is not taken over, even if it runs again at the last moment."""
        first, second = self.owner(), self.looking_owner()
        first.claim(7)
        for _ in range(9):
            self.assertFalse(self.is_frozen(second, TAKE_OVER_AFTER - 1))
            first.renew()
        self.assertTrue(self.is_frozen(second))
        first.renew()
        self.assertFalse(second.take_over(7))
        self.assertEqual(first.lost(), [])

    def test_taker_frozen(self) -> None:
        """One that has taken over and is frozen itself is taken over from, though the first one runs by now."""
        first, *others = self.owner(), *(self.looking_owner() for _ in range(4))
        first.claim(7)
        for taker in others[:3]:
            for _ in range(int(TAKE_OVER_AFTER) + 1):
                first.renew()
                taker.is_frozen(7)
                self.now += 0 if taker is others[0] else 1
            self.is_frozen(taker)
            self.assertTrue(taker.take_over(7))
        self.is_frozen(others[3])
        self.assertFalse(others[3].take_over(7))

    def test_given_back_cleanly(self) -> None:
        """What was given back does not make its next holder seem frozen, if that one writes nothing."""
        first, second = self.owner(), self.looking_owner()
        first.claim(7)
        first.release(7)
        self.assertIsNone(second.owner(7))
        descriptor = os.open(self.path, os.O_RDWR)
        self.addCleanup(os.close, descriptor)
        self.assertTrue(lock_byte(descriptor, fcntl.F_WRLCK, 7))
        self.assertFalse(second.claim(7) or self.is_frozen(second))

    def test_looker_frozen(self) -> None:
        """Time in which the looking process did not run does not count against the holder."""
        first, second = self.owner(), self.looking_owner()
        first.claim(7)
        second.is_frozen(7)
        self.now += 1000
        self.assertFalse(second.is_frozen(7))

    def test_says_nothing(self) -> None:
        """Nothing is taken over from a holder that has not written that it would look."""
        first, second = self.owner(), self.looking_owner()
        first.claim(7)
        os.truncate(self.path, 0)
        self.assertFalse(self.is_frozen(second))

    def test_killed(self) -> None:
        """What has been taken over is free the moment that the process is killed, though the first holder is there."""
        first, second = self.owner(), self.looking_owner()
        first.claim(7)
        self.is_frozen(second)
        source = f"{_TAKER}\nclaims.is_frozen(7)\nprint(claims.take_over(7), flush=True)\nsys.stdin.read()"
        taker = subprocess.Popen(
            [sys.executable, "-c", source, str(self.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(taker.communicate)
        self.addCleanup(taker.kill)
        self.assertEqual(taker.stdout and taker.stdout.readline(), "True\n")
        self.assertEqual((second.claim(7), (second.owner(7) or (0, 0))[0]), (False, taker.pid))
        taker.kill()
        taker.wait()
        self.assertTrue(second.claim(7))

    def test_whole(self) -> None:
        """Where a task is claimed as a whole nothing is taken over."""
        self.by_piece = False
        first, second = self.owner(), self.looking_owner()
        first.claim(7)
        self.assertFalse(second.claim(7) or self.is_frozen(second))
        self.assertEqual(first.lost(), [])


class WholeTests(ClaimsTestCase):
    """Where open files have no locks of ranges, a task is claimed as a whole."""

    by_piece = False

    def test_opened(self) -> None:
        """A task is in use from the moment when it is opened, before any piece is claimed."""
        first = self.owner()
        self.assertTrue(is_claimed(self.directory, PieceKind.CACHE, "abcd"))
        first.close()
        self.assertFalse(is_claimed(self.directory, PieceKind.CACHE, "abcd"))

    def test_waiting(self) -> None:
        """No owner takes itself for the only one: another may wait."""
        first, second = self.owner(), self.owner()
        self.assertEqual((first.is_alone(), first.is_only()), (True, False))
        first.close()
        self.assertTrue(second.claim(3))

    def test_one_owner(self) -> None:
        """A download that has claimed one piece has claimed them all, until it closes."""
        first, second = self.owner(), self.owner()
        self.assertEqual((first.claim(3), second.claim(4), first.claim(4)), (True, False, True))
        first.release(3)
        self.assertFalse(second.claim(3))
        self.assertEqual((first.is_alone(), second.is_alone()), (True, False))
        first.close()
        self.assertTrue(second.claim(3))

    def test_killed(self) -> None:
        """What another process has claimed is free the moment that it is killed."""
        process, claims = self.process(), self.owner()
        self.assertFalse(claims.claim(8))
        process.kill()
        process.wait()
        self.assertTrue(claims.claim(8))


class MixedTests(ClaimsTestCase):
    """One process claims pieces, and another one, to which those locks are refused, claims whole tasks."""

    def whole_owner(self) -> Claims:
        """An owner without locks of ranges."""
        claims = Claims(self.path, by_piece=False)
        claims.open()
        self.addCleanup(claims.close)
        return claims

    def test_excluded(self) -> None:
        """An owner of the whole waits until no piece is claimed any more, and keeps all others from claiming any."""
        by_piece, whole = self.owner(), self.whole_owner()
        self.assertTrue(by_piece.claim(1))
        self.assertFalse(whole.claim(2))
        self.assertFalse(whole.is_alone())
        by_piece.close()
        self.assertTrue(whole.claim(2))
        late = self.owner()
        self.assertEqual((late.claim(1), late.is_alone()), (False, False))
        late.close()
        self.assertTrue(self.path.exists())
        again = self.owner()
        self.assertFalse(again.claim(1))
        whole.close()
        self.assertTrue(again.claim(1))

    def test_file_deleted(self) -> None:
        """An owner of the whole that has waited at a file that is gone claims the one that others use by now."""
        by_piece, whole = self.owner(), self.whole_owner()
        by_piece.close()
        self.assertFalse(self.path.exists())
        late = self.owner()
        self.assertTrue(late.claim(1))
        self.assertFalse(whole.claim(1))
        late.close()
        self.assertTrue(whole.claim(1))
