"""
The wheel, the sdist and an editable install are whole, and each makes the plugin known to ``twistd``.

Everything is built once, by one test, from a copy of the sources, so that the checkout stays as it is, and installed
without the network: see :func:`add_packages`.
"""

from __future__ import annotations

import configparser
import email
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dragonfly_vortex import __version__
from dragonfly_vortex.config import load_config

ROOT = Path(__file__).resolve().parent.parent

PLUGIN = Path("twisted", "plugins", "dragonfly_vortex_plugin.py")
ENDPOINTS = Path("twisted", "plugins", "dragonfly_vortex_endpoints.py")

#: What the project consists of; not everything that lies in a checkout, such as a storage of gigabytes.
SOURCES = (
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "README.md", "SECURITY.md"),
    *("pyproject.toml", "setup.cfg", "setup.py", "tap.yaml"),
    *(".ci", "benchmarks", "docs", "dragonfly_vortex", "examples", "packaging", "test", "twisted"),
)

#: What a wheel installs below the prefix of an environment.
SHELL_FILES = (
    "share/bash-completion/completions/dfvortex",
    "share/fish/vendor_completions.d/dfvortex.fish",
    "share/man/man1/dfvortex.1",
    "share/zsh/site-functions/_dfvortex",
)

#: Run twistd as its script does, but isolated: nothing is taken from the working directory or from PYTHONPATH.
TWISTD = ("-I", "-c", "from twisted.scripts.twistd import run; run()")


def run(*command: str | Path, directory: Path) -> str:
    """
    Run a command to its end.

    :param command: the program and its arguments.
    :param directory: the directory to run it in.
    :returns: what it wrote to its standard output.
    :raises RuntimeError: it failed; the message holds all that it wrote.
    """
    ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if ran.returncode:
        raise RuntimeError(f"{command} exited with {ran.returncode}, expected 0:\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def copy_sources(directory: Path) -> Path:
    """Copy the project into a directory below the given one, without what its tools leave behind, and return it."""
    copy = directory / "checkout"
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            left_behind = shutil.ignore_patterns("__pycache__", "dropin.cache", "target")  # the last is cargo's
            shutil.copytree(ROOT / name, copy / name, ignore=left_behind)
        elif (ROOT / name).exists():
            shutil.copy2(ROOT / name, copy / name)
    return copy


def add_packages(home: Path) -> None:
    """
    Have an environment see this one's packages, through a path file.

    Python does not follow the path files in there, so an editable install of this checkout is out of its sight.
    """
    (site_packages,) = home.glob("lib/python*/site-packages")
    places = [place for place in sys.path if Path(place).name in {"site-packages", "dist-packages"}]
    site_packages.joinpath("dependencies.pth").write_text("\n".join(places), encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A copy of the checkout, the names of the files in it, and what was built from them."""

    checkout: Path
    sources: frozenset[str]
    sdist: Path
    wheel: Path


def build(directory: Path) -> Build:
    """Build the sdist from a copy of the sources in a directory, and the wheel from the sdist."""
    checkout = copy_sources(directory)
    sources = frozenset(str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_file())
    dist = directory / "dist"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, checkout, directory=directory)
    (sdist,) = dist.glob("*.tar.gz")
    (wheel,) = dist.glob("*.whl")
    return Build(checkout=checkout, sources=sources, sdist=sdist, wheel=wheel)


_USERS_PROGRAM = """
from __future__ import annotations

from twisted.internet.protocol import Protocol

from dragonfly_vortex import Download, PieceKind, VortexPeer, load_config, send_file
from dragonfly_vortex.events import DownloadedTask, DownloadEvent, PieceKept, as_json
from dragonfly_vortex.wire import PieceRequest


async def seconds_of(peer: VortexPeer, task_id: str) -> dict[int, float]:
    download: Download = peer.download(task_id, kind=PieceKind.STANDARD, parents=["10.0.0.7:4005"])
    seconds: dict[int, float] = {}
    async for event in download:
        print(line_of(event))
        if isinstance(event, PieceKept):
            seconds[event.number] = event.seconds
    first: bytes = await download.read(0, 10)
    done: DownloadedTask = await download.done
    return seconds if done.content_length > len(first) else {}


def line_of(event: DownloadEvent) -> str:
    return as_json(event).decode()


class SendsOneFile(Protocol):
    def connectionMade(self) -> None:
        if self.transport is not None:
            with open("model.bin", "rb") as file:
                send_file(self.transport, file).addErrback(print)


def limit_of(path: str) -> int:
    return load_config(path).config.upload.bandwidth_limit


def request_of(task_id: str) -> bytes:
    return PieceRequest(packet_id=1, kind=PieceKind.CACHE, task_id=task_id, number=0).to_bytes()
"""


class PackagingTests(SynchronousTestCase):
    """What is built from the sources holds what it should, and works where it is installed."""

    def environment(self) -> Path:
        """Make an environment that has all of this one's packages but ours, and return its interpreter."""
        home = Path(self.mktemp()).absolute()
        venv.create(home, symlinks=True)
        add_packages(home)
        return home / "bin" / "python"

    def install(self, *what: str | Path) -> Path:
        """Install into a new environment with pip, from local files alone, and return its interpreter."""
        python = self.environment()
        run(
            *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", *what),
            directory=Path(self.mktemp()).parent,
        )
        return python

    def assert_shown(self, python: Path, place: Path) -> None:
        """Assert that twistd lists the plugin, and that it and the package are the ones installed in a place."""
        elsewhere = Path(self.mktemp())
        elsewhere.mkdir()
        self.assertRegex(run(python, *TWISTD, "--help", directory=elsewhere), r"(?m)^ +dfvortex +A peer that serves")
        program = (
            "import twisted.plugins.dragonfly_vortex_plugin as p, dragonfly_vortex as d; print(p.__file__, d.__file__)"
        )
        found = run(python, "-I", "-c", program, directory=elsewhere).split()
        self.assertEqual(found, [str(place / PLUGIN), str(place / "dragonfly_vortex" / "__init__.py")])

    def site_packages(self, python: Path) -> Path:
        """Return the directory into which pip installs for an interpreter."""
        (place,) = python.parent.parent.glob("lib/python*/site-packages")
        return place

    def assert_sdist_is_whole(self, built: Build) -> None:
        """Assert that the sdist holds the sources, each file of them, so that the tests can be run out of it."""
        with tarfile.open(built.sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        self.assertEqual(built.sources - names, set())
        self.assertLessEqual({"LICENSE", "README.md", "setup.cfg", "tap.yaml", "test/__init__.py"}, names)

    def assert_wheel_is_whole(self, built: Build) -> None:
        """Assert that the wheel has each module, ``py.typed``, page, plugin, licence, shells' files, nothing else."""
        with zipfile.ZipFile(built.wheel) as archive:
            names = {name for name in archive.namelist() if not name.endswith("/")}
        modules = {name for name in built.sources if name.startswith("dragonfly_vortex/") and name.endswith(".py")}
        pages = {name for name in built.sources if name.startswith("dragonfly_vortex/metrics/static/")}
        metadata = {name for name in names if name.partition("/")[0].endswith(".dist-info")}
        self.assertEqual(len(pages), 4)
        others = {"dragonfly_vortex/py.typed", str(PLUGIN), str(ENDPOINTS)}
        data = {name.partition(".data/data/")[2]: name for name in names if ".data/data/" in name}
        self.assertEqual(set(data), set(SHELL_FILES))
        self.assertEqual(names - metadata - set(data.values()), modules | pages | others)
        self.assertEqual(len([name for name in metadata if name.endswith("/LICENSE")]), 1)

    def assert_wheel_says_what_it_is(self, built: Build) -> None:
        """Assert that the wheel's metadata names the project, licence and Python, and the command's entry point."""
        with zipfile.ZipFile(built.wheel) as archive:
            (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            (entry_points,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
            said = email.message_from_bytes(archive.read(metadata))
            commands = configparser.ConfigParser()
            commands.read_string(archive.read(entry_points).decode())
        self.assertEqual(said["Name"], "dragonfly-vortex")
        self.assertIn("Apache-2.0", (said["License-Expression"], said["License"]))
        self.assertEqual(said["Requires-Python"], ">=3.10")
        self.assertEqual(dict(commands["console_scripts"]), {"dfvortex": "dragonfly_vortex.cli:main"})

    def assert_metadata(self, built: Build) -> None:
        """Assert that both have the metadata that the package index wants, where twine is installed."""
        if importlib.util.find_spec("twine") is None:
            return
        what = (built.wheel, built.sdist)
        said = run(sys.executable, "-m", "twine", "check", "--strict", *what, directory=ROOT)
        self.assertEqual(said.count("PASSED"), 2, said)

    def assert_commands(self, python: Path) -> None:
        """Assert that the installed wheel has the command, its completion for shells, and its man page."""
        prefix = python.parent.parent
        elsewhere = Path(self.mktemp())
        elsewhere.mkdir()
        said = run(prefix / "bin" / "dfvortex", "--version", directory=elsewhere)
        self.assertEqual(said, f"dfvortex {__version__}\n")
        for name in SHELL_FILES:
            self.assertIn("dfvortex", prefix.joinpath(name).read_text(encoding="utf-8"))

    def assert_benchmarks_are_sources(self, built: Build, python: Path) -> None:
        """Assert that the benchmarks are in the sdist, but neither in the wheel nor in the installed package."""
        with tarfile.open(built.sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        self.assertLessEqual({"benchmarks/__main__.py", "test/benchmarks/test_main.py"}, names)
        with zipfile.ZipFile(built.wheel) as wheel:
            self.assertEqual([name for name in wheel.namelist() if name.startswith(("benchmarks", "test"))], [])
        program = (
            "import importlib.util as util; print(util.find_spec('benchmarks'), util.find_spec('dragonfly_vortex'))"
        )
        found = run(python, "-I", "-c", program, directory=Path(self.mktemp()).parent)
        self.assertRegex(found, r"\ANone ModuleSpec\(name='dragonfly_vortex'")

    def test_built(self) -> None:
        """
        The sdist has the sources, and the wheel what it should; both have what the package index wants. The installed
        wheel, sdist and checkout show the plugin in ``twistd --help``. One test, as building takes seconds.
        """
        directory = Path(tempfile.mkdtemp(prefix="dragonfly-vortex-packaging-")).resolve()
        self.addCleanup(shutil.rmtree, directory)
        built = build(directory)
        self.assert_sdist_is_whole(built)
        self.assert_wheel_is_whole(built)
        self.assert_wheel_says_what_it_is(built)
        self.assert_metadata(built)
        python = self.install(built.wheel)
        self.assert_shown(python, self.site_packages(python))
        self.assert_commands(python)
        self.assert_benchmarks_are_sources(built, python)
        python = self.install(built.sdist)
        self.assert_shown(python, self.site_packages(python))
        python = self.install("--editable", built.checkout)
        self.assert_shown(python, built.checkout)

    def test_environment_is_empty(self) -> None:
        """An environment of these tests has Twisted but not this project, so that what is seen was installed there."""
        python = self.environment()
        shown = run(python, *TWISTD, "--help", directory=Path(self.mktemp()).parent)
        self.assertIn("A domain name server.", shown)
        self.assertNotIn("dfvortex", shown)

    def test_image(self) -> None:
        """The image has a user of its own and a health check, and its configuration loads."""
        packaging = ROOT / "packaging"
        lines = (packaging / "Dockerfile").read_text(encoding="utf-8").splitlines()
        self.assertRegex([line for line in lines if line.startswith("USER")][-1], r"^USER [1-9]\d*$")
        self.assertEqual(len([line for line in lines if line.startswith("HEALTHCHECK")]), 1)
        loaded = load_config(str(packaging / "dfdaemon.yaml"))
        self.assertEqual(loaded.warnings, ())
        self.assertIn(f"VOLUME {loaded.config.storage.dir.parent}", lines)

    def test_types_of_a_users_project(self) -> None:
        """A program that uses the installed package is checked by its types: what is wrong is found, and only that."""
        if importlib.util.find_spec("mypy") is None:
            raise SkipTest("mypy is not installed")
        python = self.environment()
        shutil.copytree(ROOT / "dragonfly_vortex", self.site_packages(python) / "dragonfly_vortex")
        project = Path(self.mktemp()).absolute()
        project.mkdir()
        project.joinpath("good.py").write_text(_USERS_PROGRAM, encoding="utf-8")
        wrong = _USERS_PROGRAM.replace("event.seconds", "event.second").replace("read(0, 10)", "read('0', 10)")
        project.joinpath("wrong.py").write_text(wrong, encoding="utf-8")
        mypy = (sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "good.py", "wrong.py")
        ran = subprocess.run(mypy, cwd=project, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        found = ran.stdout.splitlines()
        self.assertEqual(len(found), 3, found)
        self.assertRegex(found[0], r'^wrong\.py:.*"PieceKept" has no attribute "second"')
        self.assertRegex(found[1], r'^wrong\.py:.*Argument 1 to "read" of "Download" has incompatible type "str"')
        self.assertRegex(found[2], r"^Found 2 errors in 1 file \(checked 2 source files\)$")
