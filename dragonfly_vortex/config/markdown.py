"""
The configuration reference, written from the model that reads configurations: ``python -m dragonfly_vortex.config``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from dragonfly_vortex.config.dfdaemon import (
    DFDAEMON_KEYS,
    MOVED_KEYS,
    NEVER,
    REPLACED_VALUES,
    Keys,
    camel_case,
    snake_case,
    spellings,
)
from dragonfly_vortex.config.model import Config
from dragonfly_vortex.config.setting import Setting, fields_of
from dragonfly_vortex.transport_table import ALL, transports_named

__all__ = ["reference"]

_HEAD = """\
# Configuration

<!-- Written by `python -m dragonfly_vortex.config` from the fields in dragonfly_vortex/config/: change them there. -->

One YAML file, at most 256 KiB of UTF-8. Every key is optional. A wrong value, or a misspelt key, is an error of one
line:

```
tap.yaml:9: download.piece_timout: unknown key (did you mean piece_timeout?); expected one of protocol, ...
```

Each key has its default, then what is allowed.

- A key may be written as in the reference (`pieceTimeout`). A key of ours that is there twice is an error.
- A **duration** is numbers with units (`300s`, `1h30m`, `0.5s`), or a plain number of seconds; more than 0, and at most
  `1y` unless a key says otherwise. Units: `ns`, `us` or `µs`, `ms`, `s`, `m`, `h`, `d`, `w`, `M` (30.44 days), `y`
  (365.25 days), and their names.
- A **size** is a number with a unit (`50GB`, `4MiB`, `.5MB`), or of bytes. `K` and `KB` are 1000 bytes, `Ki` and `KiB`
  1024; likewise `M`, `G`, `T`, `P`, in any case.
- **Booleans** are `true` and `false`. **Integers** are decimal, hexadecimal (`0x10`), octal (`0o17`) or binary
  (`0b11`). `on`, `off`, `yes`, `no`, `010`, `1_000`, `4:05` and what is quoted are text.
- A **path** is absolute or relative to the file. A **port** is 0 to 65535; 0 takes a free one.
- The reference refuses a plain number of seconds, and skips merge keys (`<<`). Tags (`!name`) are refused here.
- Two ports of a peer ({ports}, `metrics.server.port`,
  `health.server.port`) must differ, unless they are 0 or their addresses do not overlap.
"""

_DFDAEMON = """\
## A `dfdaemon.yaml`

The reference's configuration loads as it is. Its keys mean the same, and {moved}.

- **Not yet used**: {later}. What is below them is not used either.
- **Never used**: {never}.

One warning in the log names these, and unknown keys of the reference's sections and of the top level. An unknown key
is an error in our own sections ({ours}), and where it is very near to a name that only we have, such as `piece_timout`,
or at the top level to any name that is used here, such as `storge`.

A warning names what is used for a value that cannot hold here: {replaced}; for a size or duration below
the least that is allowed the default; above the most, the most. In our own keys this is an error.
"""

_SHORTER = (
    (", (?:such as|without quotes|absolute or).*", ""),
    ("^(?:an? |one of |the path of )", ""),
    ("^whole number from ", ""),
    ("^duration of more than 0 to (?:1y)?", ""),
    ("^(?:size from |duration in )", ""),
    ("^IP address such as.*", ""),
    ("^(?:file|directory)$|^0 to 65535$", ""),
    (" to 9223372036854775807", " or more"),
    ("^true or false$", ""),
)
"""What of a key's allowed values the head of the page says, or its default shows."""


def reference() -> str:
    """
    Write the reference.

    :returns: Markdown, with a newline at its end.
    """
    moved = ", ".join(f"`{_camel(old)}` means `{new}`" for old, new in MOVED_KEYS.items())
    unused = list(_unused(Config, DFDAEMON_KEYS, ""))
    later = ", ".join(f"`{key}`" for key in unused if key not in NEVER)
    never = ", ".join(f"`{key}`" for key in unused if key in NEVER)
    replaced = "; ".join(
        f"for `{_camel(key)}: {value}` `{used}`"
        for key, values in REPLACED_VALUES.items()
        for value, used in values.items()
    )
    ours = ", ".join(f"`{name}`" for name in _ours_alone(Config, DFDAEMON_KEYS, ""))
    dfdaemon = _DFDAEMON.format(moved=moved, later=later, never=never, ours=ours, replaced=replaced)
    ports = ", ".join(f"`{each.port_key}`" for each in transports_named(ALL) if each.port_key)
    return "\n".join([_HEAD.format(ports=ports), *_sections(Config, ""), dfdaemon])


def _sections(section: type[Any], path: str) -> Iterator[str]:
    """Write a section's own keys, then the sections below it."""
    keys = [(name, kind, default) for name, kind, default in fields_of(section) if isinstance(kind, Setting)]
    if keys:
        title = f"`{path.rstrip('.')}`" if path else "The peer"
        own = [_row(path + name, kind, default) for name, kind, default in keys if name in section.__annotations__]
        inherited = [f"**`{path}{name}`**" for name, *_ in keys if name not in section.__annotations__]
        if inherited:
            own.append(f"- {', '.join(inherited)}: as in `tls`.")
        yield "\n".join([f"## {title}", "", inspect.getdoc(section) or "", "", *own, ""])
    for name, kind, _ in fields_of(section):
        if isinstance(kind, type):
            yield from _sections(kind, f"{path}{name}.")


def _row(key: str, setting: Setting, default: Any) -> str:
    """Write one key. The head of the page says how a value of its kind is written."""
    omitted = "none" if setting.omitted == "none" else f"omitted: {setting.omitted}"
    shown = omitted if default is None else f"`{setting.kind.show(default)}`"
    allowed = setting.kind.allowed
    for pattern, instead in _SHORTER:
        allowed = re.sub(pattern, instead, allowed)
    return f"- **`{key}`**: {shown}{f' ({allowed})' if allowed else ''}. {setting.purpose}"


def _unused(section: type[Any], theirs: Keys, path: str) -> Iterator[str]:
    """Yield the reference's keys that we do not have; of a section that we do not have, only its own."""
    fields = {name: kind for name, kind, _ in fields_of(section)}
    ours = spellings(fields)
    for key, known in theirs.items():
        kind = fields.get(ours.get(snake_case(key), ""))
        if isinstance(kind, type) and known is not None:
            yield from _unused(kind, known, f"{path}{key}.")
        elif kind is None and snake_case(path + key) not in MOVED_KEYS:
            yield path + key


def _ours_alone(section: type[Any], theirs: Keys, path: str) -> Iterator[str]:
    """Yield the sections that the reference does not have; of those, only the uppermost."""
    for name, kind, _ in fields_of(section):
        if isinstance(kind, type):
            known = theirs.get(camel_case(name))
            if known is None:
                yield path + name
            else:
                yield from _ours_alone(kind, known, f"{path}{name}.")


def _camel(path: str) -> str:
    """Write a dotted path the reference's way."""
    return ".".join(camel_case(name) for name in path.split("."))
