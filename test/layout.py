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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """One imported name: in which file and line, what, and whether only when a function runs or for types alone."""

    path: Path
    line: int
    target: str
    in_function: bool
    for_types: bool = False


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


def imports_of(root: Path, path: Path) -> Sequence[Import]:
    """Return what a file imports, at its top and inside functions; ``from package import module`` is that module."""
    return _imports_in(root, path, path.read_bytes())


@functools.cache
def _imports_in(root: Path, path: Path, source: bytes) -> Sequence[Import]:
    """Return what a file with that source imports: several rules ask, and to parse all files takes a second."""

    def visit(node: ast.AST, in_function: bool, for_types: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name, in_function, for_types)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                base = "." * node.level + (node.module or "")
                full = f"{base}.{alias.name}"
                # Outside the project no file tells modules from other names; the reactor is the one that matters.
                is_kept = is_module(root, full) or base == PACKAGE or full == "twisted.internet.reactor"
                target = full if is_kept else base
                yield Import(path, node.lineno, target, in_function, for_types)
        inside = in_function or isinstance(node, (*FUNCTIONS, ast.Lambda))
        typing = for_types or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside, typing)

    return tuple(visit(ast.parse(source), False, False))


def package_imports(root: Path) -> Iterator[tuple[str, Import]]:
    """Yield each import of the package with the name of the module that makes it."""
    for path in sources(root, PACKAGE):
        module = module_name(root, path)
        for imported in imports_of(root, path):
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
        (path, node.lineno, node.module, alias.name)
        for path in sources(root, PACKAGE, "test")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.ImportFrom) and node.module is not None and is_below(node.module, PACKAGE)
        for alias in node.names
    ]
    elsewhere = {(module_name(root, path), name) for path, _, _, name in imported if path.name != "__init__.py"}
    return [
        said(root, path, line, f"{name} is not defined in {module}")
        for path, line, module, name in imported
        if (module, name) in elsewhere
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
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.level:
                breaches.append(said(root, path, node.lineno, "relative import"))
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                breaches.append(said(root, path, node.lineno, "import of everything"))
    return breaches


def name_breaches(root: Path) -> list[str]:
    """Find functions and classes with a kind of piece in their name."""
    return [
        said(root, path, node.lineno, f"{node.name} has a kind in its name")
        for path in sources(root, PACKAGE)
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, (*FUNCTIONS, ast.ClassDef))
        if KIND_IN_NAME.search(node.name) and node.name not in METHODS_OF_THE_INTERFACE
    ]


def transport_breaches(root: Path) -> list[str]:
    """Find comparisons with the name or the scheme of a transport: the table of transports has what differs."""
    breaches = []
    for path in sources(root, PACKAGE):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Compare):
                compared = {str(each.value) for each in ast.walk(node) if isinstance(each, ast.Constant)}
                words = sorted(compared & TRANSPORT_WORDS)
                breaches += [said(root, path, node.lineno, f"comparison with {word!r}") for word in words]
    return breaches


def docstring_breaches(root: Path) -> list[str]:
    """Find modules, classes and tests that do not say what they are."""
    breaches = []
    for path in sources(root, PACKAGE, "twisted", "test"):
        tree = ast.parse(path.read_bytes())
        if not ast.get_docstring(tree):
            breaches.append(said(root, path, 1, "module without a docstring"))
        for node in ast.walk(tree):
            if not isinstance(node, (*FUNCTIONS, ast.ClassDef)) or ast.get_docstring(node):
                continue
            if isinstance(node, ast.ClassDef) or node.name.startswith("test_"):
                breaches.append(said(root, path, node.lineno, f"{node.name} has no docstring"))
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
