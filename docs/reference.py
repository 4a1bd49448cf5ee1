"""
Write the API reference with pydoctor: the public names, each in the package that promises it, and nothing else.

``python docs/reference.py DIRECTORY`` writes it there, and exits with 3 where pydoctor warns.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydoctor.driver import main
from pydoctor.extensions import ClassMixin, ExtRegistrar
from pydoctor.model import Attribute, Class, Documentable, Module, PrivacyClass, System

PACKAGES = ("dragonfly_vortex", "dragonfly_vortex.events", "dragonfly_vortex.wire", "dragonfly_vortex.testing")
SHORTENED = re.compile(r"`~([\w.]+\.(\w+))`")


class Dataclass(ClassMixin, Class):
    """A class whose fields are the parameters of its constructor, unless it has one."""

    @property
    def constructor_params(self) -> Mapping[str, ast.expr | None]:
        """The names of the parameters, with their types."""
        params = dict(super().constructor_params)
        for each in self.mro():
            if isinstance(each, Class):
                fields = (field for field in each.contents.values() if isinstance(field, Attribute))
                params |= {field.name: field.annotation for field in fields}
                # A field whose default is a name of another class is no attribute for pydoctor, but an alias.
                params |= dict.fromkeys(each._localNameToFullName_map)
        return params


def spell_out_links(system: System) -> None:
    """Write ``~package.module.Name`` in the way that pydoctor knows, with the last part as the link's text."""
    for each in system.allobjects.values():
        if each.docstring and SHORTENED.search(each.docstring):
            each.docstring = SHORTENED.sub(r"`\2 <\1>`", each.docstring)
            each.parsed_docstring = None


def move_public_names(system: System) -> None:
    """Move each name from its module to the package that promises it."""
    for name in PACKAGES:
        package = system.allobjects[name]
        if not isinstance(package, Module):
            raise TypeError(f"expected a package, got {package}")
        for public in package.all or ():
            if public in package.contents:
                continue
            place = package.expandName(public)
            while (found := system.allobjects.get(place)) is None:
                module, _, last = place.rpartition(".")
                place = system.allobjects[module].expandName(last)
            found.reparent(package, public)


def setup_pydoctor_extension(registrar: ExtRegistrar) -> None:
    """Called by pydoctor."""
    registrar.register_mixin(Dataclass)
    registrar.register_post_processor(spell_out_links, priority=1000)
    registrar.register_post_processor(move_public_names, priority=1000)


class PublicNames(System):
    """A system that hides what is not promised."""

    custom_extensions: ClassVar[list[str]] = [__name__]

    def privacyClass(self, ob: Documentable) -> PrivacyClass:
        """Whether an object is shown."""
        is_public = ob.fullName() in PACKAGES or ob.fullName().startswith("dragonfly_vortex.testing.")
        if isinstance(ob, Module) and not is_public:
            return PrivacyClass.HIDDEN
        return super().privacyClass(ob)


if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    sys.exit(
        main(
            [
                *("--system-class", "reference.PublicNames", "--docformat", "restructuredtext", "--warnings-as-errors"),
                *("--quiet", "--project-name", "dragonfly-vortex", "--html-output", *sys.argv[1:]),
                str(root / "dragonfly_vortex"),
            ]
        )
    )
