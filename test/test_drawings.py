"""Tests of the documents' drawings: each is drawn from the code, and is what the document has."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task.parent_state import Parent, Standing
from dragonfly_vortex.wire.connection import TRANSITIONS, State
from test.layout import LAYERS, PACKAGE, layer_of, package_imports

ROOT = Path(__file__).resolve().parent.parent
MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: What may happen to a parent in which of its states, and how the code is called for it.
ACTS: tuple[tuple[str, tuple[Standing, ...], Callable[[Parent], object]], ...] = (
    ("any answer", (Standing.GOOD, Standing.DOUBTED), Parent.answer),
    ("a request fails", (Standing.GOOD, Standing.DOUBTED), lambda parent: parent.fail(0, parent.round)),
    ("nothing comes in time", (Standing.GOOD, Standing.DOUBTED), Parent.give_up),
    ("after a pause", (Standing.OUT,), Parent.recover),
    (
        "it lies",
        (Standing.GOOD, Standing.DOUBTED, Standing.OUT),
        lambda parent: parent.lie_about("a lie", {"tcp://accuser"}),
    ),
    ("all its accusers lied", (Standing.LIED,), lambda parent: parent.lose_accuser("tcp://accuser")),
)


def drawing_of_packages() -> str:
    """The packages and which imports which, without the arrows that follow from others."""
    packages = [layer for layers in LAYERS for layer in layers if (ROOT / PACKAGE / layer).is_dir()]
    imported: dict[str, set[str]] = {package: set() for package in packages}
    for module, each in package_imports(ROOT):
        importer, target = layer_of(module), layer_of(each.target)
        if importer in imported and target in imported and importer != target:
            imported[importer].add(target)
    below: dict[str, set[str]] = {}
    arrows = []
    for package in packages:  # the lowest first, so that what is below its imports is known
        further = {each for target in imported[package] for each in below[target]}
        below[package] = imported[package] | further
        arrows += [f"    {package} --> {target}\n" for target in packages if target in imported[package] - further]
    return "flowchart TD\n" + "".join(reversed(arrows))


def drawing_of_parents() -> str:
    """The states of a parent in a download, and what leads from one to the next."""
    lines = ["stateDiagram-v2", f"    [*] --> {Parent(address='').standing.value}"]
    for text, standings, act in ACTS:
        for standing in standings:
            parent = Parent(address="", standing=standing, accusers={"tcp://accuser"})
            act(parent)
            if parent.standing is not standing:
                lines.append(f"    {standing.value} --> {parent.standing.value}: {text}")
    return "\n".join(lines) + "\n"


def drawing_of_conversations() -> str:
    """The states of a conversation, and the packet or event that leads from one to the next."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.IDLE.value}"]
    for state, row in TRANSITIONS.items():
        lines += [f"    {state.value} --> {following.value}: {what.__name__}" for what, following in row.items()]
    return "\n".join(lines) + "\n"


class DrawingTests(SynchronousTestCase):
    """The drawings, which Mermaid's language describes."""

    maxDiff = None

    def assert_drawn(self, name: str, drawing: str) -> None:
        """Assert that this drawing is the one of a document."""
        text = ROOT.joinpath("docs", name).read_text(encoding="utf-8")
        self.assertEqual("\n".join(MERMAID.findall(text)), drawing)

    def test_packages(self) -> None:
        """The architecture shows which package imports which."""
        self.assert_drawn("architecture.md", drawing_of_packages())

    def test_parents(self) -> None:
        """The states of a parent in a download are those that it goes through."""
        self.assert_drawn("download.md", drawing_of_parents())

    def test_conversations(self) -> None:
        """The states of a conversation are those of the table in the code."""
        self.assert_drawn("wire-format.md", drawing_of_conversations())
