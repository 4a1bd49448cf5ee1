"""
Tests of the package's errors: one root, and messages that say what was expected and what came.
"""

from __future__ import annotations

import pickle
import re
from inspect import signature
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex import errors
from dragonfly_vortex.task.layout import Contradiction
from dragonfly_vortex.task.pieces import Described
from dragonfly_vortex.testing.pieces import sample_piece

PARENT = "192.0.2.1:4005"
PIECE_ID = f"{'t' * 64}-7"


def public_errors() -> dict[str, type[BaseException]]:
    """All exceptions that the module defines, by their names."""
    return {
        name: what
        for name, what in vars(errors).items()
        if isinstance(what, type) and issubclass(what, BaseException) and what.__module__ == errors.__name__
    }


class FamilyTests(SynchronousTestCase):
    """All errors are of one family, with a branch for each layer."""

    def test_one_root(self) -> None:
        """The root class catches every error of the package, and nothing else."""
        self.assertIs(errors.VortexError.__base__, Exception)
        for name, error in public_errors().items():
            self.assertTrue(issubclass(error, errors.VortexError), name)

    def test_all_are_public(self) -> None:
        """The module offers errors alone."""
        offered = {name for name in vars(errors) if not name.startswith("_")} - {"annotations"}
        self.assertEqual(offered, public_errors().keys())

    def test_documented(self) -> None:
        """Every error says itself when it is raised: a description is not inherited."""
        for name, error in public_errors().items():
            self.assertTrue(error.__doc__, name)

    def test_branches(self) -> None:
        """What is caught together is of one branch."""
        for branch, members in (
            (
                errors.UsageError,
                (
                    errors.ConfigError,
                    errors.PortGivenTwice,
                    errors.CertificateUnusable,
                    errors.UnknownProtocol,
                    errors.WrongTransport,
                    errors.OutputExists,
                ),
            ),
            (errors.OutputError, (errors.OutputExists,)),
            (errors.ProtocolError, (errors.LocalProtocolError, errors.RemoteProtocolError)),
            (errors.StorageError, (errors.NotStored, errors.PieceDamaged, errors.StorageFailure)),
            (
                errors.PieceError,
                (
                    errors.PieceNotFound,
                    errors.ParentFailed,
                    errors.ParentUnreachable,
                    errors.PieceTimeout,
                    errors.InvalidPiece,
                ),
            ),
            (errors.ParentUnreachable, (errors.PieceTruncated, errors.CertificateRejected, errors.OtherProtocol)),
            (errors.InvalidPiece, (errors.ParentSpokeWrongly, errors.UnexpectedPiece, errors.DigestMismatch)),
            (errors.TaskError, (errors.TaskNotFound, errors.TaskDigestMismatch, errors.NoParentLeft)),
        ):
            for member in members:
                self.assertTrue(issubclass(member, branch), member)

    def test_branches_apart(self) -> None:
        """One side's fault is not the other's, and a parent that is away is not one that lied."""
        for one, other in (
            (errors.LocalProtocolError, errors.RemoteProtocolError),
            (errors.ParentUnreachable, errors.InvalidPiece),
            (errors.PieceTimeout, errors.InvalidPiece),
            (errors.PieceNotFound, errors.InvalidPiece),
            (errors.SinkFailed, errors.PieceError),
            (errors.TaskError, errors.PieceError),
        ):
            self.assertFalse(issubclass(one, other) or issubclass(other, one), (one, other))


class PickleTests(SynchronousTestCase):
    """An error can be passed to another process."""

    def test_every_error(self) -> None:
        """Every error has the same type, message, arguments and attributes afterwards."""
        examples: dict[str, object] = {"code": 3, "line": 3, "timeout": 5.0}
        examples["last"] = errors.PieceTimeout(PARENT, PIECE_ID, "no content for 360 s")
        for name, kind in public_errors().items():
            takes_facts = kind.__init__ is not Exception.__init__
            names = list(signature(kind).parameters) if takes_facts else ["message"]
            error = kind(*(examples.get(each, f"a {each}") for each in names))
            copy = pickle.loads(pickle.dumps(error))
            self.assertIs(type(copy), kind)
            self.assertEqual((str(copy), copy.args), (str(error), error.args), name)
            self.assertEqual({**vars(copy), "last": None}, {**vars(error), "last": None}, name)
            self.assertEqual(str(getattr(copy, "last", "")), str(getattr(error, "last", "")))

    def test_errors_of_other_modules(self) -> None:
        """The errors of the family that a module has for itself are passed with their attributes, too."""
        kinds = "|".join(public_errors())
        package = Path(errors.__file__).parent
        texts = [path.read_text(encoding="utf-8") for path in package.rglob("*.py") if path.name != "errors.py"]
        found = {name for text in texts for name in re.findall(rf"^class (\w+)\((?:{kinds})\b", text, re.M)}
        examples = (Contradiction("expected this, got that", {PARENT}), Described(sample_piece(1000).metadata))
        self.assertEqual(found, {type(error).__name__ for error in examples})
        for error in examples:
            copy = pickle.loads(pickle.dumps(error))
            self.assertEqual((type(copy), copy.args, vars(copy)), (type(error), error.args, vars(error)))


class MessageTests(SynchronousTestCase):
    """The attributes carry the facts, and the message says them."""

    def test_config(self) -> None:
        """A wrong configuration is one line with file, line, key and reason."""
        error = errors.ConfigError("tap.yaml", 3, "download.tcp.capacity", "expected a number above 0, got -1")
        self.assertEqual(str(error), "tap.yaml:3: download.tcp.capacity: expected a number above 0, got -1")
        self.assertEqual(
            (error.file, error.line, error.key, error.reason),
            ("tap.yaml", 3, "download.tcp.capacity", "expected a number above 0, got -1"),
        )

    def test_config_without_a_key(self) -> None:
        """Where the whole file is meant, no key is shown."""
        self.assertEqual(
            str(errors.ConfigError("tap.yaml", 1, "", "expected a mapping")), "tap.yaml:1: expected a mapping"
        )

    def test_certificate(self) -> None:
        """A file that cannot be used is named, with the reason."""
        error = errors.CertificateUnusable("/peer.key", "expected a private key, found none")
        self.assertEqual(str(error), "/peer.key: expected a private key, found none")
        self.assertEqual((error.file, error.reason), ("/peer.key", "expected a private key, found none"))

    def test_piece(self) -> None:
        """An error about a piece names parent and piece, whichever it is."""
        for kind in (
            errors.PieceError,
            errors.PieceNotFound,
            errors.ParentUnreachable,
            errors.CertificateRejected,
            errors.PieceTruncated,
            errors.PieceTimeout,
            errors.InvalidPiece,
            errors.ParentSpokeWrongly,
            errors.UnexpectedPiece,
            errors.DigestMismatch,
        ):
            error = kind(PARENT, PIECE_ID, "expected this, got that")
            self.assertEqual(str(error), f"piece {PIECE_ID} from parent {PARENT}: expected this, got that")
            self.assertEqual(
                (error.parent, error.piece_id, error.reason), (PARENT, PIECE_ID, "expected this, got that")
            )

    def test_parent_failed(self) -> None:
        """What a parent answered keeps its code."""
        error = errors.ParentFailed(PARENT, PIECE_ID, "internal error: disk", 3)
        self.assertEqual(str(error), f"piece {PIECE_ID} from parent {PARENT}: internal error: disk")
        self.assertEqual(error.code, 3)

    def test_task(self) -> None:
        """An error about a task names it."""
        for kind in (errors.TaskError, errors.TaskNotFound, errors.TaskDigestMismatch):
            error = kind("abc", "expected this, got that")
            self.assertEqual(str(error), "task abc: expected this, got that")
            self.assertEqual((error.task_id, error.reason), ("abc", "expected this, got that"))

    def test_no_parent_left(self) -> None:
        """The last parent's failure, which is why there is none left, is shown whole and kept."""
        last = errors.PieceTimeout(PARENT, PIECE_ID, "no content for 360 s")
        error = errors.NoParentLeft("abc", last)
        self.assertEqual(
            str(error), f"task abc: no parent left: piece {PIECE_ID} from parent {PARENT}: no content for 360 s"
        )
        self.assertIs(error.last, last)

    def test_named_once(self) -> None:
        """A task's ID stands once in an error about the task, and a piece's once in an error about the piece."""
        last = errors.ParentFailed(PARENT, "abc-3", "error 3: piece abc-3 could not be read", 3)
        self.assertEqual(str(last), f"piece abc-3 from parent {PARENT}: error 3: the piece could not be read")
        error = errors.NoParentLeft("abc", last)
        self.assertEqual(
            str(error), f"task abc: no parent left: piece 3 from parent {PARENT}: error 3: the piece could not be read"
        )
