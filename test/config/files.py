"""
Configuration files, and single values of them, for tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config.kinds import Kind
from dragonfly_vortex.config.loader import LoadedConfig, load_config
from dragonfly_vortex.config.reading import Loader
from dragonfly_vortex.config.yaml_tree import Scalar
from dragonfly_vortex.errors import ConfigError

__all__ = ["ConfigFileTestCase", "KindTestCase", "scalar"]


def scalar(written: str) -> Scalar:
    """
    Return what a configuration has where this is written.
    """
    node = yaml.compose(written, Loader=Loader)
    if node is None:
        raise ValueError("expected a value, not an empty document")
    return Scalar(text=node.value, tag=node.tag.removeprefix("tag:yaml.org,2002:"), line=1)


class ConfigFileTestCase(SynchronousTestCase):
    """
    A test case that writes, loads and refuses configuration files.
    """

    def write(self, content: str | bytes) -> str:
        """
        Write a file and return its path.
        """
        file = Path(self.mktemp())
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(file)

    def load(self, content: str | bytes) -> LoadedConfig:
        """
        Load a file with this content.
        """
        return load_config(self.write(content))

    def refused(self, content: str | bytes) -> ConfigError:
        """
        Return the error for a file with this content, which must be one line that begins with file and line.
        """
        file = self.write(content)
        with self.assertRaises(ConfigError) as raised:
            load_config(file)
        error: ConfigError = raised.exception
        self.assertEqual(len(str(error).splitlines()), 1)
        self.assertTrue(str(error).startswith(f"{file}:{error.line}: "), str(error))
        self.assertGreaterEqual(error.line, 1)
        return error


class KindTestCase(SynchronousTestCase):
    """
    A test case that reads values of one kind.
    """

    def assert_read(self, kind: Kind[Any], expected: dict[str, Any]) -> None:
        """
        Each text is read as the value beside it, of the same type.
        """
        for written, value in expected.items():
            read = kind.parse(scalar(written))
            self.assertEqual((read, type(read)), (value, type(value)), written)

    def assert_refused(self, kind: Kind[Any], *written: str) -> None:
        """
        None of the texts is taken.
        """
        for text in written:
            with self.assertRaises(ValueError, msg=text):
                kind.parse(scalar(text))
