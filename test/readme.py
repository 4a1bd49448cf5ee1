"""
Take the shell commands out of ``README.md``, so that what is run is what is read.

``python -m test.readme`` prints the one that passes the tests; it needs the standard library only.
"""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"

#: A fenced block of shell commands, its text being the first group.
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Return the text of each ``sh`` block of a Markdown document, in order."""
    return BLOCK.findall(text)


def command_that_runs(program: str, text: str) -> str:
    """
    Return the first ``sh`` block of a Markdown document that runs a program.

    :param program: what stands in the block, such as ``-m test``.
    :param text: the document.
    :raises LookupError: no block has it.
    """
    for command in commands(text):
        if program in command:
            return command
    raise LookupError(f"expected a block of sh with {program!r}, found none in {len(commands(text))}")


if __name__ == "__main__":
    print(command_that_runs("-m test", README.read_text(encoding="utf-8")), end="")
