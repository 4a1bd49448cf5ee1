"""A parent whose list ends early is asked again, ever more seldom, as long as that may be of use."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.rpc.patience import Patience


class PatienceTests(SynchronousTestCase):
    """A parent that has not been asked before."""

    def setUp(self) -> None:
        self.patience = Patience()

    def fruitless(self, seconds: float = 0.1) -> float | None:
        """A list has told nothing new."""
        return self.patience.pause(is_new=False, seconds=seconds)

    def test_news(self) -> None:
        """A list that has told something new is soon asked for again, however often, however fast it was."""
        self.assertEqual([self.patience.pause(is_new=True, seconds=each) for each in (0.0, 0.1, 60.0)], [0.5] * 3)

    def test_taken_at_its_word(self) -> None:
        """A parent that answers three times at once and has nothing new is not asked again."""
        self.assertEqual([self.fruitless() for _ in range(3)], [0.5, 1.0, None])

    def test_news_begin_anew(self) -> None:
        """A parent that has something new after all is asked as patiently as before."""
        for _ in range(3):
            self.assertEqual(self.patience.pause(is_new=True, seconds=0.1), 0.5)
            self.assertEqual([self.fruitless(), self.fruitless()], [1.0, 2.0])

    def test_takes_its_time(self) -> None:
        """A parent that keeps its list open, though it ends without news, has more to come; it is asked less often."""
        self.assertEqual([self.fruitless(2.0) for _ in range(6)], [0.5, 1.0, 2.0, 4.0, 4.0, 4.0])

    def test_at_once_now_and_then(self) -> None:
        """Only answers at once that follow one another count."""
        for _ in range(3):
            self.assertIsNotNone(self.fruitless(1.9))
            self.assertIsNotNone(self.fruitless(1.9))
            self.assertIsNotNone(self.fruitless(2.1))
