"""Tests of the documents: their links, and the modules and tests that they name, exist."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


class LinkTests(SynchronousTestCase):
    """Links between the documents."""

    def test_every_link_to_a_file_leads_to_one(self) -> None:
        """A relative link names a file that is there."""
        broken = [
            f"{document.name}: {target}"
            for document in DOCUMENTS
            for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
            if "://" not in target and not (document.parent / target).exists()
        ]
        self.assertEqual(broken, [])

    def test_fragments_have_no_links_to_files(self) -> None:
        """A fragment becomes a part of the changelog, which is in another folder: it names a page by its path."""
        for fragment in sorted((ROOT / "docs" / "changes").glob("*.*.md")):
            links = re.findall(r"\]\(([^)]+)", fragment.read_text(encoding="utf-8"))
            self.assertEqual([link for link in links if "://" not in link], [], fragment.name)

    def test_every_document_is_linked_from_the_readme_or_another_document(self) -> None:
        """Every document can be reached by links, but for the fragments of the changelog."""
        linked = {
            (document.parent / target).resolve()
            for document in DOCUMENTS
            for target in re.findall(r"\]\(([^)#]+\.md)", document.read_text(encoding="utf-8"))
        }
        lonely = [
            document.name
            for document in DOCUMENTS
            if document not in linked and document.name != "README.md" and document.parent.name != "changes"
        ]
        self.assertEqual(lonely, [])


class ArchitectureTests(SynchronousTestCase):
    """The tree in ``docs/architecture.md``."""

    def test_every_module_is_in_the_tree(self) -> None:
        """A newcomer finds each module there, and so what it belongs to."""
        tree = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```")[1]
        modules = {path.stem for path in (ROOT / "dragonfly_vortex").rglob("*.py") if not path.stem.startswith("__")}
        self.assertEqual(modules - set(re.findall(r"[a-z0-9_]+", tree)), set())


class NamedTests(SynchronousTestCase):
    """The tests that documents name as their evidence."""

    def test_every_test_that_is_named_exists(self) -> None:
        """A name like ``test.wire.test_reader.ReaderTests`` is that of a module, a class or a test."""
        for document in DOCUMENTS:
            for name in set(re.findall(r"`(test(?:\.\w+)+)", document.read_text(encoding="utf-8"))):
                self.assertIsNotNone(namedAny(name), f"{document.name}: {name}")

    def test_every_module_that_is_named_exists(self) -> None:
        """A name like ``task/picker.py`` is that of a file of the package, or of the project."""
        for document in DOCUMENTS:
            for name in set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*/[a-z_]+\.py)`", document.read_text(encoding="utf-8"))):
                places = (ROOT / "dragonfly_vortex" / name, ROOT / name)
                self.assertTrue(any(place.is_file() for place in places), f"{document.name}: {name}")


class PlainWordsTests(SynchronousTestCase):
    """The English of documents, docstrings, comments and messages."""

    UNPLAIN = re.compile(
        r"\b(?:nobody|whoever|somebody|anybody|everybody|nought|whom|in vain|all the same|ha(?:s|ve|d) come"
        r"|(?:is|are|was|were|be|been) told)\b",
        re.I,
    )

    def test_a_noun_stands_where_there_is_one(self) -> None:
        """A sentence names the peer, the process or the parameter that it is about."""
        for path in [
            *DOCUMENTS,
            *sorted((ROOT / "dragonfly_vortex").rglob("*.py")),
            *sorted(ROOT.glob("examples/*.py")),
        ]:
            words = self.UNPLAIN.findall(" ".join(path.read_text(encoding="utf-8").split()))
            self.assertEqual(words, [], path.relative_to(ROOT))
