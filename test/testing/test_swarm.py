"""The simulator of a swarm."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NoParentLeft
from dragonfly_vortex.task import swarm as plan
from dragonfly_vortex.testing.contract_parent import Fault
from dragonfly_vortex.testing.simulation import Lie, Outcome, Swarm
from dragonfly_vortex.testing.swarm import simulate
from test.wire.profiles import PROFILE

_LENGTH, _PIECE = 20_000_000, 1_000_000
"""Bytes of the task, and of a piece; a peer sends the task in two seconds."""


class SwarmTests(SynchronousTestCase):
    """Small swarms."""

    def test_one(self) -> None:
        """One child needs as long as its parent needs to send the task."""
        outcome = simulate(Swarm(peers=1, content_length=_LENGTH, piece_length=_PIECE))
        self.assertAlmostEqual(outcome.seconds, 2.0, 1)
        self.assertEqual(outcome.sent, {0: _LENGTH})
        self.assertEqual(outcome.kept, {(1, 0): _LENGTH})

    def test_rates(self) -> None:
        """A parent with half the rate needs twice as long."""
        outcome = simulate(Swarm(peers=1, content_length=_LENGTH, piece_length=_PIECE, rates={0: 5e6}))
        self.assertAlmostEqual(outcome.seconds, 4.0, 1)

    def test_repeats(self) -> None:
        """The same seed gives the same run, event by event; another seed gives another one."""

        def run(seed: int) -> Outcome:
            return simulate(
                Swarm(peers=8, content_length=_LENGTH, piece_length=_PIECE, start_spread=1.0, neighbours=4, seed=seed)
            )

        self.assertEqual(run(1), run(1))
        self.assertNotEqual(run(1).trace, run(2).trace)

    def test_everybody_finishes(self) -> None:
        """All children finish, each byte that is kept has been sent, and each child has the whole task once."""
        outcome = simulate(Swarm(peers=6, content_length=_LENGTH, piece_length=_PIECE))
        self.assertEqual(set(outcome.finished), set(range(1, 7)))
        self.assertEqual(sum(outcome.kept.values()), 6 * _LENGTH)
        self.assertGreaterEqual(sum(outcome.sent.values()), 6 * _LENGTH)
        self.assertEqual((outcome.failed, outcome.wrong), ({}, 0))

    def test_four(self) -> None:
        """Four that start together need little more than the time of one."""
        outcome = simulate(Swarm(peers=4, content_length=_LENGTH, piece_length=_PIECE // 2))
        self.assertLess(outcome.seconds, 1.5 * 2.0)

    def test_departures(self) -> None:
        """Children that leave get nothing more, and those that stay finish."""
        outcome = simulate(
            Swarm(peers=6, content_length=_LENGTH, piece_length=_PIECE, departures={2: 0.5, 5: 1.0, 6: 0.0})
        )
        self.assertEqual(set(outcome.finished), {1, 3, 4})
        self.assertEqual(outcome.failed, {2: None, 5: None, 6: None})
        self.assertGreaterEqual(outcome.seconds, 2.0)
        for number, at in ((2, 0.5), (5, 1.0), (6, 0.0)):
            self.assertLessEqual(max([each.at for each in outcome.trace if each.child == number], default=0.0), at)

    def test_only_parent_leaves(self) -> None:
        """Without a parent a child fails, and what it has is right."""
        outcome = simulate(Swarm(peers=1, content_length=_LENGTH, piece_length=_PIECE, departures={0: 1.0}, retry=2.0))
        self.assertIsInstance(outcome.failed[1], NoParentLeft)
        self.assertEqual((outcome.finished, outcome.wrong), ({}, 0))

    def test_kinds_of_lies(self) -> None:
        """There is a liar for each fault that a parent of the kit can have."""
        self.assertEqual({fault.name for fault in Fault} - {"NONE"}, {lie.name for lie in Lie} - {"FORGED"})

    def test_liars(self) -> None:
        """Whatever two of eight peers do, announcing all pieces or none, the others finish, and keep no wrong byte."""
        for lie in Lie:
            for mute in (frozenset[int](), frozenset({2, 5})):
                outcome = simulate(
                    Swarm(
                        peers=8,
                        content_length=_LENGTH // 2,
                        piece_length=_PIECE,
                        liars={2: lie, 5: lie},
                        mute=mute,
                    )
                )
                self.assertEqual(set(outcome.finished), {1, 3, 4, 6, 7, 8}, (lie, mute))
                self.assertEqual(outcome.wrong, 0, (lie, mute))

    def test_forged(self) -> None:
        """
        Where two peers send forged pieces, which the others pass on, the first peer is the first to be believed alone:
        its upload, for those pieces once more, is what takes the time.
        """
        for seed in range(2):
            outcome = simulate(Swarm(peers=8, liars={7: Lie.FORGED, 8: Lie.FORGED}, mute=frozenset({7, 8}), seed=seed))
            self.assertEqual((len(outcome.finished), outcome.wrong), (6, 0))
            self.assertLess(outcome.seconds, 4 * 8.0)

    def test_window(self) -> None:
        """A window of few pieces makes a swarm slower; with that of the plan it is as fast as without one."""

        def seconds(pieces: int) -> float:
            self.patch(plan, "window", lambda length: pieces)
            return simulate(Swarm(peers=8, content_length=_LENGTH, piece_length=_PIECE)).seconds

        narrow, chosen, unbounded = map(seconds, (2, plan.WINDOW, 10**6))
        self.assertGreater(narrow, 1.3 * chosen)
        self.assertLessEqual(chosen, 1.05 * unbounded)

    def test_asks_again(self) -> None:
        """A child that starts late is asked again for what it has: others fetch from it in the end."""
        swarm = Swarm(peers=2, content_length=_LENGTH, piece_length=_PIECE, rates={0: 1e6})
        outcome = simulate(swarm)
        self.assertGreater(outcome.kept[1, 2] + outcome.kept[2, 1], 0)


_ODD = st.one_of(st.sampled_from(list(Lie)), st.floats(0.0, 2.0))
"""What is odd about a peer: how it lies, or when it leaves, in seconds."""


class PropertyTests(SynchronousTestCase):
    """Any swarm."""

    @settings(PROFILE, max_examples=PROFILE.max_examples // 4)
    @given(
        peers=st.integers(1, 6),
        piece_count=st.integers(1, 12),
        rest=st.integers(0, _PIECE - 1),
        odd=st.dictionaries(st.integers(1, 6), _ODD, max_size=3),
        slow=st.dictionaries(st.integers(0, 6), st.floats(1e6, 1e7), max_size=2),
        mute=st.frozensets(st.integers(1, 6), max_size=3),
        neighbours=st.none() | st.integers(0, 6),
        start_spread=st.floats(0.0, 2.0),
        seed=st.integers(0, 1000),
    )
    def test_all_finish(
        self,
        peers: int,
        piece_count: int,
        rest: int,
        odd: dict[int, Lie | float],
        slow: dict[int, float],
        mute: frozenset[int],
        neighbours: int | None,
        start_spread: float,
        seed: int,
    ) -> None:
        """While the first peer stays, all children that neither lie nor leave finish, and no wrong byte is kept."""
        odd = {number: each for number, each in odd.items() if number <= peers}
        swarm = Swarm(
            peers=peers,
            content_length=(piece_count - 1) * _PIECE + max(1, rest),
            piece_length=_PIECE,
            rates=slow,
            mute=mute,
            neighbours=neighbours,
            start_spread=start_spread,
            liars={number: each for number, each in odd.items() if isinstance(each, Lie)},
            departures={number: each for number, each in odd.items() if not isinstance(each, Lie)},
            seed=seed,
        )
        outcome = simulate(swarm)
        self.assertLessEqual(set(range(1, peers + 1)) - set(odd), set(outcome.finished))
        self.assertEqual(outcome.wrong, 0)
