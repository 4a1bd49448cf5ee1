"""
The rules of the source as functions: which part may import which, what a name may say, which files belong together.

Each takes a root directory and returns the breaches that it finds below it, one line each, by reading the syntax
trees; none imports what it judges. ``test_layout`` asks them about the project.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

PACKAGE = "dragonfly_vortex"

#: The layers, lowest first. A module imports from layers before its own, and from its own.
LAYERS = (
    ("errors",),
    ("wire",),
    ("model",),
    ("events",),
    ("interfaces",),
    ("download_target",),
    ("transport_table",),
    ("address",),
    ("deferreds",),
    ("limited_log",),
    ("discovery",),
    ("peer_exchange",),
    ("clock",),
    ("threads",),
    ("system_calls",),
    ("files",),
    ("digest",),
    ("identity",),
    ("config",),
    ("geometry",),
    ("host_stats",),
    ("metrics",),
    ("storage",),
    ("transport",),
    ("source",),
    ("vortex", "rpc"),
    ("cluster",),
    ("downloaders",),
    ("task",),
    ("daemon", "tap", "cli", "filesystem"),
    ("testing",),
)

#: Layers with sides that do not know one another. A module on no side stands alone.
SIDES = {
    "vortex": (
        frozenset(
            {
                "connections",
                "replies",
                "server_protocol",
                "accept_balance",
                "waiting_connections",
                "server",
                "endpoint_server",
            }
        ),
        frozenset({"transfer", "client_protocol", "client", "client_pool"}),
    ),
    "downloaders": (
        frozenset({"by_kind", "pooled", "tcp"}),
        frozenset({"by_kind", "pooled", "grpc"}),
        frozenset({"by_kind", "http"}),
        frozenset({"by_kind", "failover", "auto"}),
    ),
}

#: Layers that do not know one another: the two transports.
APART = (frozenset({"vortex", "rpc"}),)

#: The modules of those layers whose very purpose is to know all sides, beside the package's own __init__.
COMBINING = frozenset({f"{PACKAGE}.downloaders.factory"})

#: The layers that put things together, and may take the global reactor.
COMPOSITION = LAYERS[-2]

#: What the protocol without I/O has no use for: sockets, files, clocks, randomness, threads.
INPUT_AND_OUTPUT = frozenset(
    {"asyncio", "multiprocessing", "os", "pathlib", "random", "secrets", "select", "selectors", "shutil", "signal"}
    | {"socket", "socketserver", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time"}
)

#: A kind of piece in a name; kind is data, so that only the interface's own methods have one.
KIND_IN_NAME = re.compile(r"persistent|(cache|standard)_?(piece|task)", re.IGNORECASE)

#: The names and the schemes of transports; their table has what differs, so that no code asks for one.
TRANSPORT_WORDS = frozenset({"tcp", "tls", "grpc", "grpcs"})

#: The most lines of a module.
LONGEST = 400

METHODS_OF_THE_INTERFACE = frozenset({"download_persistent_piece", "download_persistent_cache_piece"})

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Import:
    """
    One imported name.

    :param target: the module, where the name is one below the root; else the module that the name comes from.
    :param source: what stands after ``from``; empty for a plain import.
    :param name: the name.
    :param in_function: whether it is imported only when a function runs.
    :param for_types: whether it is imported for types alone.
    """

    path: Path
    line: int
    target: str
    source: str
    name: str
    in_function: bool
    for_types: bool


class Definition(NamedTuple):
    """A function or a class: in which line, and whether it is a class and has a docstring."""

    line: int
    name: str
    is_class: bool
    has_docstring: bool


@dataclass(slots=True)
class Facts:
    """
    What the rules ask about a file.

    :param compared: the lines with a comparison, and the constants in it as text.
    """

    has_docstring: bool
    imports: list[Import] = field(default_factory=list)
    definitions: list[Definition] = field(default_factory=list)
    compared: list[tuple[int, set[str]]] = field(default_factory=list)


def sources(root: Path, *directories: str) -> list[Path]:
    """Return the Python files below the given directories of the root, sorted."""
    return sorted(path for directory in directories for path in (root / directory).rglob("*.py"))


def module_name(root: Path, path: Path) -> str:
    """Return the dotted name under which a file below the root is imported."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str:
    """Return a module's layer: the first name below the package, or nothing for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def rank_of(layer: str) -> int | None:
    """Return how far up a layer stands, the lowest being 0, or None if it has no place yet."""
    return next((rank for rank, names in enumerate(LAYERS) if layer in names), None)


def is_module(root: Path, name: str) -> bool:
    """Tell whether a dotted name is a module or a package below the root."""
    path = root.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def facts_of(root: Path, path: Path) -> Facts:
    """Return what the rules ask about a file; ``from package import module`` is an import of that module."""
    return _facts_in(root, path, path.read_bytes())


@functools.cache
def _facts_in(root: Path, path: Path, source: bytes) -> Facts:
    """Return the facts of a file with that source: all rules ask, and to parse all files takes seconds."""
    tree = ast.parse(source)
    facts = Facts(bool(ast.get_docstring(tree)))
    waiting: list[tuple[ast.AST, bool, bool]] = [(tree, False, False)]
    while waiting:
        node, in_function, for_types = waiting.pop()
        if isinstance(node, ast.Import):
            facts.imports += [
                Import(path, node.lineno, alias.name, "", alias.name, in_function, for_types) for alias in node.names
            ]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                full = f"{base}.{alias.name}"
                # Outside the project no file tells modules from other names; the reactor is the one that matters.
                is_kept = is_module(root, full) or base == PACKAGE or full == "twisted.internet.reactor"
                target = full if is_kept else base
                facts.imports.append(Import(path, node.lineno, target, base, alias.name, in_function, for_types))
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            is_class, has_docstring = isinstance(node, ast.ClassDef), bool(ast.get_docstring(node))
            facts.definitions.append(Definition(node.lineno, node.name, is_class, has_docstring))
        elif isinstance(node, ast.Compare):
            constants = {str(each.value) for each in ast.walk(node) if isinstance(each, ast.Constant)}
            facts.compared.append((node.lineno, constants))
        inside = in_function or isinstance(node, (*FUNCTIONS, ast.Lambda))
        typing = for_types or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        waiting += [(child, inside, typing) for child in ast.iter_child_nodes(node)]
    facts.imports.reverse()  # a stack gives the last statement first
    facts.definitions.reverse()
    return facts


def package_imports(root: Path) -> Iterator[tuple[str, Import]]:
    """Yield each import of the package with the name of the module that makes it."""
    for path in sources(root, PACKAGE):
        module = module_name(root, path)
        for imported in facts_of(root, path).imports:
            yield module, imported


def said(root: Path, path: Path, line: int, what: str) -> str:
    """Return a breach as one line that an editor can jump to."""
    return f"{path.relative_to(root)}:{line}: {what}"


def is_below(module: str, package: str) -> bool:
    """Tell whether a module is the package or lies in it."""
    return module == package or module.startswith(f"{package}.")


def order_breaches(root: Path) -> list[str]:
    """Find imports that point down the list of layers or sideways, and modules that have no layer."""
    breaches = [
        said(root, path, 1, f"{module_name(root, path)} stands in no layer")
        for path in sources(root, PACKAGE)
        if module_name(root, path) != PACKAGE and rank_of(layer_of(module_name(root, path))) is None
    ]
    for module, imported in package_imports(root):
        if module == PACKAGE and imported.for_types:
            continue  # it loads its public names when they are asked for, and tells type checkers where they are
        if is_below(imported.target, PACKAGE) and not may_import(module, imported.target):
            breaches.append(said(root, imported.path, imported.line, f"{module} imports {imported.target}"))
    return breaches


def may_import(module: str, target: str) -> bool:
    """Tell whether a module of the package may import another one."""
    layer = layer_of(module)
    if layer == layer_of(target) and layer in SIDES and module not in COMBINING | {f"{PACKAGE}.{layer}"}:
        return any({name.rpartition(".")[2] for name in (module, target)} <= side for side in SIDES[layer])
    if any({layer, layer_of(target)} == pair for pair in APART):
        return False
    if target == f"{PACKAGE}.__version__":
        return True
    own, others = rank_of(layer), rank_of(layer_of(target))
    return own is not None and others is not None and others <= own


def circle_breaches(root: Path) -> list[str]:
    """Find modules of the package that import each other, also by way of others, at their tops or for types alone."""
    imported: dict[str, set[str]] = {}
    for module, each in package_imports(root):
        if module != PACKAGE and is_below(each.target, PACKAGE) and each.target != module:
            imported.setdefault(module, set()).add(each.target)
    reached: dict[str, set[str]] = {}
    for module in imported:
        waiting, found = [module], reached.setdefault(module, set())
        while waiting:
            new = imported.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
    return [f"{module} imports itself by way of others" for module in sorted(reached) if module in reached[module]]


def home_breaches(root: Path) -> list[str]:
    """Find names that are imported from a module which imports them, too; a package offers its modules' names."""
    imported = [
        each
        for path in sources(root, PACKAGE, "test")
        for each in facts_of(root, path).imports
        if is_below(each.source, PACKAGE)
    ]
    elsewhere = {(module_name(root, each.path), each.name) for each in imported if each.path.name != "__init__.py"}
    return [
        said(root, each.path, each.line, f"{each.name} is not defined in {each.source}")
        for each in imported
        if (each.source, each.name) in elsewhere
    ]


def wire_breaches(root: Path) -> list[str]:
    """
    Find imports of wire/, or of the errors that it shares, beyond the standard library's calculating part and msgspec,
    which makes classes of values.
    """
    pure = tuple(f"{PACKAGE}.{layer}" for layer in ("errors", "wire"))
    return [
        said(root, imported.path, imported.line, f"{module} imports {imported.target}")
        for module, imported in package_imports(root)
        if is_below(module, pure[0]) or is_below(module, pure[1])
        if not any(is_below(imported.target, name) for name in pure)
        if imported.target.split(".")[0] not in {"msgspec", *sys.stdlib_module_names} - INPUT_AND_OUTPUT
    ]


def reactor_breaches(root: Path) -> list[str]:
    """Find imports of the global reactor outside the composition root, or outside a function."""
    return [
        said(root, imported.path, imported.line, f"{module} imports the global reactor")
        for module, imported in package_imports(root)
        if is_below(imported.target, "twisted.internet.reactor")
        if layer_of(module) not in COMPOSITION or not imported.in_function
    ]


def style_breaches(root: Path) -> list[str]:
    """Find relative imports and imports of everything, in the package, the plugin and the tests."""
    breaches = []
    for path in sources(root, PACKAGE, "twisted", "test"):
        for each in facts_of(root, path).imports:
            if each.source.startswith("."):
                breaches.append(said(root, path, each.line, "relative import"))
            if each.name == "*":
                breaches.append(said(root, path, each.line, "import of everything"))
    return breaches


def name_breaches(root: Path) -> list[str]:
    """Find functions and classes with a kind of piece in their name."""
    return [
        said(root, path, each.line, f"{each.name} has a kind in its name")
        for path in sources(root, PACKAGE)
        for each in facts_of(root, path).definitions
        if KIND_IN_NAME.search(each.name) and each.name not in METHODS_OF_THE_INTERFACE
    ]


def transport_breaches(root: Path) -> list[str]:
    """Find comparisons with the name or the scheme of a transport: the table of transports has what differs."""
    return [
        said(root, path, line, f"comparison with {word!r}")
        for path in sources(root, PACKAGE)
        for line, constants in facts_of(root, path).compared
        for word in sorted(constants & TRANSPORT_WORDS)
    ]


def docstring_breaches(root: Path) -> list[str]:
    """Find modules, classes and tests that do not say what they are."""
    breaches = []
    for path in sources(root, PACKAGE, "twisted", "test"):
        facts = facts_of(root, path)
        if not facts.has_docstring:
            breaches.append(said(root, path, 1, "module without a docstring"))
        breaches += [
            said(root, path, each.line, f"{each.name} has no docstring")
            for each in facts.definitions
            if not each.has_docstring and (each.is_class or each.name.startswith("test_"))
        ]
    return breaches


def package_breaches(root: Path) -> list[str]:
    """Find directories of modules that are no packages, and plugin directories that are: Twisted skips those."""
    of_modules = {path.parent for path in sources(root, PACKAGE, "test")}
    missing = [
        f"{path.relative_to(root)}: no __init__.py" for path in of_modules if not (path / "__init__.py").exists()
    ]
    return sorted(missing) + [
        f"{path.relative_to(root)}: hides the plugin" for path in (root / "twisted").rglob("__init__.py")
    ]


def untested_modules(root: Path) -> list[str]:
    """Find modules without a test module of their own: ``a.py`` has ``test_a.py``, ``a/b.py`` has ``a/test_b.py``."""
    missing = []
    for path in sources(root, PACKAGE):
        inside = path.relative_to(root / PACKAGE)
        expected = root / "test" / inside.with_name(f"test_{inside.name}")
        if inside.stem not in {"__init__", "__main__"} and not expected.is_file():
            missing.append(f"{path.relative_to(root)}: no {expected.relative_to(root)}")
    return missing


def long_modules(root: Path) -> list[str]:
    """Find modules of more than :data:`LONGEST` lines: such a module has a second idea, which belongs elsewhere."""
    lines = {path: path.read_bytes().count(b"\n") for path in sources(root, PACKAGE)}
    return [f"{path.relative_to(root)}: {count} lines" for path, count in lines.items() if count > LONGEST]


def loaded_by(root: Path, part: str) -> set[str]:
    """
    Import a part in a fresh interpreter, and return the names of all modules and packages that are loaded then.

    :param part: a module of the package, or a package of it with all its modules, without a subpackage ``reactor``.
    """
    program = (
        "import importlib, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "for name in sys.argv[2:]: importlib.import_module(name)\n"
        "print(*sys.modules)\n"
    )
    name = f"{PACKAGE}.{part}"
    found = [module_name(root, path) for path in sources(root, PACKAGE)]
    modules = [module for module in found if is_below(module, name) and not is_below(module, f"{name}.reactor")]
    ran = subprocess.run(
        [sys.executable, "-c", program, str(root), *modules], cwd=root, capture_output=True, text=True, check=True
    )
    return set(ran.stdout.split())
