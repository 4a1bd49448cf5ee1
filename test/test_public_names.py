"""Tests of the package's public names: each is there, and documents and type checkers know the same ones."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import dragonfly_vortex

ROOT = Path(__file__).resolve().parent.parent
PUBLIC_PACKAGES = ("dragonfly_vortex", "dragonfly_vortex.events", "dragonfly_vortex.wire", "dragonfly_vortex.testing")


def names_for_type_checkers() -> dict[str, str]:
    """Each name that is imported for type checkers, and its module."""
    tree = ast.parse((ROOT / "dragonfly_vortex" / "__init__.py").read_bytes())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: statement.module or ""
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


MADE_BY_OTHERS = {"Download", "GRPCDownloader", "TCPDownloader"}
"""Public classes whose objects a method of another one returns."""

UNFINISHED = {"TaskDownload"}
"""Public classes of which docs/embedding.md says that some of their arguments may change."""


def required_types(value: object) -> Iterator[str]:
    """The types of the arguments without a default that a class or a function takes."""
    if inspect.isfunction(value) or (inspect.isclass(value) and not issubclass(value, (BaseException, Enum))):
        for each in inspect.signature(value).parameters.values():
            if each.default is each.empty and each.annotation is not each.empty:
                yield str(each.annotation)


def said_of(value: object) -> Iterator[str]:
    """The docstrings of a class and its methods, or of a function, and the types that they take and give."""
    yield inspect.getdoc(value) or ""
    yield from required_types(value)
    methods = vars(value).items() if isinstance(value, type) else [("", value)]
    for name, method in methods:
        if inspect.isfunction(method) and not name.startswith("_"):
            yield method.__doc__ or ""
            yield str(inspect.signature(method).return_annotation)


def words(texts: Iterator[str]) -> set[str]:
    """The words of texts."""
    return {word for text in texts for word in re.findall(r"\w+", text)}


class PublicNamesTests(SynchronousTestCase):
    """What users may import."""

    def test_all(self) -> None:
        """Every public name is there, and is what the module has that type checkers are sent to."""
        types = names_for_type_checkers()
        self.assertEqual(sorted({*types, "__version__"}), sorted(dragonfly_vortex.__all__))
        for name, module in types.items():
            self.assertIs(getattr(dragonfly_vortex, name), getattr(import_module(module), name))

    def test_unknown(self) -> None:
        """Another name is an error that says so, and no import."""
        error = self.assertRaises(AttributeError, getattr, dragonfly_vortex, "Nothing")
        self.assertEqual(str(error), "module 'dragonfly_vortex' has no attribute 'Nothing'")

    def test_dir(self) -> None:
        """All public names are listed before one of them is loaded, and none is loaded by that."""
        code = "import dragonfly_vortex, sys; print(*dir(dragonfly_vortex)); print(*sys.modules)"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        names, loaded = (set(line.split()) for line in ran.stdout.splitlines())
        self.assertLessEqual(set(dragonfly_vortex.__all__), names)
        self.assertEqual(loaded & {"twisted", "zope", "grpc", "dragonfly_vortex.errors"}, set())

    def test_documents(self) -> None:
        """The README, the docs and the examples import nothing but public names."""
        for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.py")):
            text = path.read_text(encoding="utf-8")
            for module, names in re.findall(r"^from (dragonfly_vortex\S*) import (\([^)]+\)|.+)$", text, re.M):
                is_public = module in PUBLIC_PACKAGES or module.startswith("dragonfly_vortex.testing.")
                self.assertTrue(is_public, f"{path.name}: {module}")
                self.assertLessEqual(set(re.findall(r"\w+", names)), set(import_module(module).__all__), path.name)

    def test_needed(self) -> None:
        """Each public name is in the README, the docs or an example, or another one takes it, gives it or names it."""
        paths = (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.py"))
        shown = words(path.read_text(encoding="utf-8") for path in paths)
        for name in set(dragonfly_vortex.__all__) - shown - {"__version__"}:
            others = (getattr(dragonfly_vortex, other) for other in dragonfly_vortex.__all__ if other != name)
            self.assertTrue(name in words(text for other in others for text in said_of(other)), name)

    def test_arguments(self) -> None:
        """What a public class or function cannot do without is public, too, or Twisted's."""
        ours = {
            definition.name
            for path in (ROOT / "dragonfly_vortex").rglob("*.py")
            for definition in ast.parse(path.read_bytes()).body
            if isinstance(definition, ast.ClassDef) and not definition.name.endswith("Reactor")
        }
        private = ours - {name for package in PUBLIC_PACKAGES[:3] for name in import_module(package).__all__}
        for name in set(dragonfly_vortex.__all__) - MADE_BY_OTHERS - UNFINISHED:
            types = words(required_types(getattr(dragonfly_vortex, name)))
            self.assertEqual(types & private, set(), name)
