"""The player's script: its modules in `assets/player`, joined into the text of one module."""

from __future__ import annotations

import base64
import re
import zlib
from functools import cache

from ..assets import asset

_IMPORT = re.compile(r'^import [^;]*? from "\./([^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


@cache
def script(entry: str) -> str:
    """The module `entry` with all that it imports before it.

    Names at the top of all modules share one scope: no two of them may be alike.
    """
    texts: dict[str, str] = {}

    def take(name: str) -> None:
        text = asset(f"player/{name}").read_text("utf-8")
        for needed in _IMPORT.findall(text):
            if needed not in texts:
                take(needed)
        texts[name] = _EXPORT.sub("", _IMPORT.sub("", text))

    take(entry)
    return "".join(texts.values())


def terse(text: str) -> str:
    """The script without its comments, its indentation, and ends of lines at a bracket or comma; none of its texts has several."""
    bare = re.sub(r"^[ \t]*(//.*|/\*\*((?!\*/)[\s\S])*\*/)\n|^[ \t]+|^\n|[ \t]+// .*$", "", text, flags=re.MULTILINE)
    return re.sub(r"(?<=[{([,;])\n|\n(?=[})\]])", "", bare)


def packed(text: str) -> str:
    """The text in few letters: compressed, as base64."""
    packer = zlib.compressobj(9, wbits=-15, memLevel=5)  # shorter blocks: data and script are not alike
    return base64.b64encode(packer.compress(text.encode()) + packer.flush()).decode()
