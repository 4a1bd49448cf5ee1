"""
Hold the import order and the rules for names: this project is tested, and it keeps the rules of :mod:`test.layout`.

Each rule is also asked about a small tree with a breach planted in it: one that sees nothing would show here.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import dragonfly_vortex
import test
from test.layout import (
    LONGEST,
    circle_breaches,
    docstring_breaches,
    home_breaches,
    loaded_by,
    long_modules,
    name_breaches,
    order_breaches,
    package_breaches,
    reactor_breaches,
    style_breaches,
    transport_breaches,
    untested_modules,
    wire_breaches,
)

ROOT = Path(__file__).resolve().parent.parent

RULES = (
    order_breaches,
    circle_breaches,
    home_breaches,
    wire_breaches,
    reactor_breaches,
    transport_breaches,
    style_breaches,
    name_breaches,
    docstring_breaches,
    package_breaches,
    long_modules,
    untested_modules,
)


class PlaceTests(SynchronousTestCase):
    """What these tests import is this project, and nothing else of that name."""

    def test_is_not_the_standard_librarys(self) -> None:
        """The package ``test`` is the one beside ``setup.cfg``, not the standard library's."""
        self.assertEqual(Path(str(test.__file__)).resolve(), ROOT / "test" / "__init__.py")
        self.assertTrue((ROOT / "setup.cfg").is_file())

    def test_tests_this_package(self) -> None:
        """The package under test comes from this checkout or from an installation in this environment."""
        place = Path(str(dragonfly_vortex.__file__)).resolve().parent.parent
        self.assertIn(place, {ROOT, Path(sysconfig.get_path("purelib")).resolve()})


class WallTests(SynchronousTestCase):
    """The rules hold for the project, and each finds the breach that is planted in a tree of its own."""

    maxDiff = None

    def plant(self, files: Mapping[str, str]) -> Path:
        """Write the files, by their paths, into a directory of their own and return it."""
        root = Path(self.mktemp()).absolute()
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return root

    def assert_breach(self, rule: Callable[[Path], list[str]], files: Mapping[str, str], expected: str) -> None:
        """Assert that a rule finds one breach in the tree of these files, and which."""
        self.assertEqual(rule(self.plant(files)), [expected])

    def test_project(self) -> None:
        """The project keeps all rules; one test, so that each file is parsed once."""
        self.assertEqual({rule.__name__: rule(ROOT) for rule in RULES}, {rule.__name__: [] for rule in RULES})

    def test_order_downwards(self) -> None:
        """An import down the list is found, whichever way it is written and however deep it hides."""
        name = "dragonfly_vortex/storage/reactor/store.py"
        for text, line, target in (
            ("import dragonfly_vortex.task", 1, "task"),
            ("from dragonfly_vortex.vortex import client_pool", 1, "vortex"),
            ("from dragonfly_vortex import tap", 1, "tap"),
            ("def f():\n    from dragonfly_vortex.testing import Clock", 2, "testing"),
        ):
            self.assert_breach(
                order_breaches,
                {name: text, f"dragonfly_vortex/{target}.py": ""},
                f"{name}:{line}: dragonfly_vortex.storage.reactor.store imports dragonfly_vortex.{target}",
            )

    def test_order_sideways(self) -> None:
        """The serving and the fetching side of a peer do not know one another; each knows itself."""
        self.assert_breach(
            order_breaches,
            {
                "dragonfly_vortex/wire.py": "",
                "dragonfly_vortex/vortex/__init__.py": "from dragonfly_vortex.vortex.server_protocol import Factory",
                "dragonfly_vortex/vortex/client_protocol.py": "from dragonfly_vortex.wire import Vortex",
                "dragonfly_vortex/vortex/client_pool.py": "from dragonfly_vortex.vortex.client_protocol import Client",
                "dragonfly_vortex/vortex/server_protocol.py": "from dragonfly_vortex.vortex import client_protocol",
            },
            "dragonfly_vortex/vortex/server_protocol.py:1: dragonfly_vortex.vortex.server_protocol imports"
            " dragonfly_vortex.vortex.client_protocol",
        )

    def test_order_of_transports(self) -> None:
        """Vortex and gRPC do not know one another, neither at a child's nor at a parent's side."""
        for name, target in (("vortex/client_pool", "rpc"), ("rpc/client", "vortex"), ("rpc/server", "vortex")):
            module = name.replace("/", ".")
            self.assert_breach(
                order_breaches,
                {
                    f"dragonfly_vortex/{name}.py": f"import dragonfly_vortex.{target}",
                    f"dragonfly_vortex/{target}.py": "",
                },
                f"dragonfly_vortex/{name}.py:1: dragonfly_vortex.{module} imports dragonfly_vortex.{target}",
            )

    def test_order_of_downloaders(self) -> None:
        """The downloaders of one transport do not know the one that chooses between them; the factory knows all."""
        name = "dragonfly_vortex/downloaders/pooled.py"
        self.assert_breach(
            order_breaches,
            {
                "dragonfly_vortex/downloaders/factory.py": "from dragonfly_vortex.downloaders import auto, pooled",
                "dragonfly_vortex/downloaders/auto.py": "from dragonfly_vortex.downloaders import by_kind",
                "dragonfly_vortex/downloaders/by_kind.py": "",
                name: "from dragonfly_vortex.downloaders import auto",
            },
            f"{name}:1: dragonfly_vortex.downloaders.pooled imports dragonfly_vortex.downloaders.auto",
        )

    def test_order_of_strangers(self) -> None:
        """A module that has no place in the list is found."""
        self.assert_breach(
            order_breaches,
            {"dragonfly_vortex/utils.py": ""},
            "dragonfly_vortex/utils.py:1: dragonfly_vortex.utils stands in no layer",
        )

    def test_order_of_the_root(self) -> None:
        """The package itself imports none of its modules: ``import dragonfly_vortex.wire`` would load them."""
        self.assert_breach(
            order_breaches,
            {"dragonfly_vortex/__init__.py": "from dragonfly_vortex import errors", "dragonfly_vortex/errors.py": ""},
            "dragonfly_vortex/__init__.py:1: dragonfly_vortex imports dragonfly_vortex.errors",
        )

    def test_order_of_the_roots_public_names(self) -> None:
        """The package may name its modules to type checkers, and its version to its modules, but nothing else."""
        self.assertEqual(
            order_breaches(
                self.plant(
                    {
                        "dragonfly_vortex/__init__.py": "if TYPE_CHECKING:\n    from dragonfly_vortex import errors",
                        "dragonfly_vortex/errors.py": "from dragonfly_vortex import __version__",
                    }
                )
            ),
            [],
        )
        self.assert_breach(
            order_breaches,
            {
                "dragonfly_vortex/__init__.py": "",
                "dragonfly_vortex/errors.py": "from dragonfly_vortex import TCPClient",
            },
            "dragonfly_vortex/errors.py:1: dragonfly_vortex.errors imports dragonfly_vortex.TCPClient",
        )

    def test_circle(self) -> None:
        """A circle is found, also where one of its imports is for types alone."""
        files = {
            "dragonfly_vortex/vortex/server.py": "from dragonfly_vortex.vortex.server_protocol import Factory",
            "dragonfly_vortex/vortex/server_protocol.py": (
                "if TYPE_CHECKING:\n    from dragonfly_vortex.vortex.server import Server"
            ),
            "dragonfly_vortex/vortex/client.py": "from dragonfly_vortex.vortex.server import Server",
        }
        self.assertEqual(
            circle_breaches(self.plant(files)),
            [
                "dragonfly_vortex.vortex.server imports itself by way of others",
                "dragonfly_vortex.vortex.server_protocol imports itself by way of others",
            ],
        )

    def test_name_from_elsewhere(self) -> None:
        """A name that is imported from a module which imports it is found; from a package it may be imported."""
        self.assert_breach(
            home_breaches,
            {
                "dragonfly_vortex/wire/__init__.py": "from dragonfly_vortex.wire.tags import Tag",
                "dragonfly_vortex/wire/tags.py": "Tag = 1",
                "dragonfly_vortex/a.py": "from dragonfly_vortex.wire import Tag",
                "test/test_a.py": "from dragonfly_vortex.a import Tag",
            },
            "test/test_a.py:1: Tag is not defined in dragonfly_vortex.a",
        )

    def test_wire_with_a_dependency(self) -> None:
        """An import of Twisted, of a socket, of a clock or of another layer in wire/ is found."""
        name = "dragonfly_vortex/wire/codec.py"
        for target in ("twisted.internet.defer", "socket", "time", "dragonfly_vortex.interfaces"):
            self.assert_breach(
                wire_breaches,
                {name: f"import struct\nimport {target}"},
                f"{name}:2: dragonfly_vortex.wire.codec imports {target}",
            )

    def assert_loads_no_twisted(self, part: str) -> None:
        """Assert that a program that imports all of a part has loaded neither Twisted nor zope.interface."""
        loaded = loaded_by(ROOT, part)
        self.assertIn("dragonfly_vortex", loaded)
        self.assertEqual(loaded & {"twisted", "zope"}, set())

    def test_wire_loads_no_twisted(self) -> None:
        """The protocol without I/O works without Twisted."""
        self.assert_loads_no_twisted("wire")

    def test_the_model_loads_no_twisted(self) -> None:
        """The values that pass between the parts, and the events of a download, work without Twisted."""
        self.assert_loads_no_twisted("model")
        self.assert_loads_no_twisted("events")

    def test_the_blocking_storage_loads_no_twisted(self) -> None:
        """The storage works without ``storage/reactor/``, and so without Twisted."""
        self.assert_loads_no_twisted("storage")
        self.assertNotIn("dragonfly_vortex.storage.reactor", loaded_by(ROOT, "storage"))

    def test_a_part_loads_twisted(self) -> None:
        """Twisted is seen when a module of a part loads it, though no import statement says so."""
        for part in ("wire", "storage"):
            root = self.plant(
                {
                    "dragonfly_vortex/__init__.py": "",
                    f"dragonfly_vortex/{part}/__init__.py": "",
                    f"dragonfly_vortex/{part}/content.py": "__import__('twisted')",
                }
            )
            self.assertIn("twisted", loaded_by(root, part))

    def test_a_parts_half_for_the_reactor_loads_twisted(self) -> None:
        """The subpackage ``reactor`` of a part may load Twisted; a module of the part that imports it is seen."""
        files = {
            "dragonfly_vortex/__init__.py": "",
            "dragonfly_vortex/storage/__init__.py": "",
            "dragonfly_vortex/storage/reactor/__init__.py": "import twisted",
        }
        self.assertNotIn("twisted", loaded_by(self.plant(files), "storage"))
        files["dragonfly_vortex/storage/content.py"] = "import dragonfly_vortex.storage.reactor"
        self.assertIn("dragonfly_vortex.storage.reactor", loaded_by(self.plant(files), "storage"))

    def test_reactor_in_a_library(self) -> None:
        """The global reactor is found in a library, even inside a function."""
        self.assert_breach(
            reactor_breaches,
            {"dragonfly_vortex/vortex/client_pool.py": "def f():\n    from twisted.internet import defer, reactor"},
            "dragonfly_vortex/vortex/client_pool.py:2: dragonfly_vortex.vortex.client_pool imports the global reactor",
        )

    def test_reactor_at_import(self) -> None:
        """The global reactor is found at the top of a module of the composition root; in a function it may be."""
        self.assert_breach(
            reactor_breaches,
            {
                "dragonfly_vortex/daemon/service.py": "def f():\n    from twisted.internet import reactor",
                "dragonfly_vortex/tap.py": "import twisted.internet.reactor",
            },
            "dragonfly_vortex/tap.py:1: dragonfly_vortex.tap imports the global reactor",
        )

    def test_transports_compared(self) -> None:
        """A comparison with a transport's name or scheme is found, also in a collection."""
        for text in ('if door != "grpc": pass', 'x = scheme in ("udp", "grpc")'):
            files = {"dragonfly_vortex/tap.py": text}
            self.assert_breach(transport_breaches, files, "dragonfly_vortex/tap.py:1: comparison with 'grpc'")

    def test_style_of_everything(self) -> None:
        """An import of everything is found, in tests too."""
        self.assert_breach(
            style_breaches, {"test/test_a.py": "from os import *"}, "test/test_a.py:1: import of everything"
        )

    def test_style_relative(self) -> None:
        """A relative import is found."""
        self.assert_breach(
            style_breaches, {"dragonfly_vortex/a.py": "from . import b"}, "dragonfly_vortex/a.py:1: relative import"
        )

    def test_names_with_a_kind(self) -> None:
        """A kind is found in the name of a function, a coroutine or a class; the interface's methods have theirs."""
        for text, line, name in (
            ("def read_persistent(): 0", 1, "read_persistent"),
            ("class A:\n    async def cache_piece(): 0", 2, "cache_piece"),
            ("class DownloadCachePiece: 0", 1, "DownloadCachePiece"),
        ):
            self.assert_breach(
                name_breaches,
                {"dragonfly_vortex/a.py": text, "dragonfly_vortex/b.py": "def download_persistent_cache_piece(): 0"},
                f"dragonfly_vortex/a.py:{line}: {name} has a kind in its name",
            )

    def test_docstrings_missing(self) -> None:
        """A module, a class and a test without a docstring are found."""
        for text, expected in (
            ("0", "test/test_a.py:1: module without a docstring"),
            ("'It.'\nclass A: 0", "test/test_a.py:2: A has no docstring"),
            ("'It.'\ndef test_b(): 0\ndef helper(): 0", "test/test_a.py:2: test_b has no docstring"),
        ):
            self.assert_breach(docstring_breaches, {"test/test_a.py": text}, expected)

    def test_packages_missing(self) -> None:
        """A directory of modules without ``__init__.py`` is found."""
        self.assert_breach(
            package_breaches,
            {"dragonfly_vortex/__init__.py": "", "dragonfly_vortex/wire/tags.py": ""},
            "dragonfly_vortex/wire: no __init__.py",
        )

    def test_packages_too_many(self) -> None:
        """An ``__init__.py`` beside the plugin is found."""
        self.assert_breach(
            package_breaches, {"twisted/plugins/__init__.py": ""}, "twisted/plugins/__init__.py: hides the plugin"
        )

    def test_length_of_a_long_module(self) -> None:
        """A module of more lines than the limit is found; one of as many is not."""
        files = {"dragonfly_vortex/a.py": "0\n" * LONGEST, "dragonfly_vortex/b.py": "0\n" * (LONGEST + 1)}
        self.assert_breach(long_modules, files, f"dragonfly_vortex/b.py: {LONGEST + 1} lines")

    def test_tests_missing(self) -> None:
        """A module without a test module is found, at the top and in a package."""
        tested = {"dragonfly_vortex/__init__.py": "", "dragonfly_vortex/errors.py": "", "test/test_errors.py": ""}
        for module, expected in (
            ("dragonfly_vortex/tap.py", "test/test_tap.py"),
            ("dragonfly_vortex/wire/tags.py", "test/wire/test_tags.py"),
        ):
            self.assert_breach(untested_modules, {**tested, module: ""}, f"{module}: no {expected}")
