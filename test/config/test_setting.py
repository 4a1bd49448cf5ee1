"""
Tests for :mod:`dragonfly_vortex.config.setting`.
"""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, field, replace

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.config.kinds import Flag
from dragonfly_vortex.config.setting import Setting, fields_of, file_setting, section, setting, value_at


@section
class _Below:
    """
    A section in a section.
    """

    flag: bool = field(default=True, metadata=setting(Flag(), "A flag."))


@section
class _Section:
    """
    A section with a key, a key without a default of its own, and a section.
    """

    file: None = field(default=None, metadata=file_setting("A file."))
    name: str = field(default_factory=str, metadata=setting(Flag(), "A name.", omitted="none"))
    below: _Below = field(default_factory=_Below)


class SectionTests(SynchronousTestCase):
    """
    A class is walked over, and its values are found by their keys.
    """

    def test_fields(self) -> None:
        """
        A key has its setting and its default, a section has its class; what is found out later has no default.
        """
        (file, name, below) = fields_of(_Section)
        self.assertEqual((file[0], file[2], name[0], name[2]), ("file", None, "name", None))
        self.assertEqual(below, ("below", _Below, None))
        self.assertEqual([*fields_of(_Below)], [("flag", Setting(kind=Flag(), purpose="A flag."), True)])

    def test_values(self) -> None:
        """
        A section is a frozen value that can be compared, shown, copied and changed in a copy.
        """
        one = _Section(name="x")
        self.assertEqual((one, hash(one)), (_Section(name="x"), hash(_Section(name="x"))))
        self.assertNotEqual(one, _Section())
        self.assertNotEqual(one, "x")
        self.assertEqual(repr(one), "_Section(file=None, name='x', below=_Below(flag=True))")
        self.assertEqual(replace(one, name=""), _Section())
        self.assertEqual(asdict(one), {"file": None, "name": "x", "below": {"flag": True}})
        for same in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
            self.assertEqual(same, one)
        with self.assertRaises(FrozenInstanceError):
            del one.name
        with self.assertRaisesRegex(TypeError, "unexpected keyword argument 'nmae'"):
            _Section(**{"nmae": "x"})  # type: ignore[arg-type]

    def test_value(self) -> None:
        """
        A dotted key leads to a value, through the sections.
        """
        self.assertIs(value_at(_Section(below=_Below(flag=False)), "below.flag"), False)
        self.assertRaises(AttributeError, value_at, _Section(), "below.flags")
