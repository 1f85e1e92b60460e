"""Where the text of a notebook first uses a word of the glossary, and whether it leads there.

A word is used in plain text: not in a heading, in code, in the name of a button, or under *Source lines*. Its first use is a link
to the glossary, or in italics, where the notebook says what it means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.conftest import ROOT

PAGE = "glossary.md"
PLAIN = re.compile(  # what is no plain text, or names something else
    r"""^\#\#[ ]Source[ ]lines(?s:.*) | ^\#.*$ | ^[ ]{4}.*$ | `[^`]*` | \*\*[^*]*\*\* | “[^”]*” | \[[^\]]*\]\((?!glossary)[^)]*\)
    | (?<![\w*])\*(?=\S)[^*\n]*,[^*\n]*(?<=\S)\*(?!\*)""",
    re.MULTILINE | re.VERBOSE,
)
OTHER = (  # where such a word means what it means everywhere
    "access to",
    "accesses to",
    "kernel's log",
    "may lock",
    "device nor root",
    "sample driver",
    "to check the ID",
    "tells Check",
    "file and function",
    "the shortest way into",
    "the shortest way to it",
    "the shortest way has",
    "Most shortest ways",
)


def glossary() -> dict[str, str]:
    """The words of the glossary, in small letters, each with the one that it stands beside."""
    rows = re.findall(r"^\| ([^|]+) \| (.+) \| \d\d \|$", (ROOT / "notebooks" / PAGE).read_text("utf-8"), re.MULTILINE)
    return {word.lower(): name for name, said in rows for word in (name, *re.findall(r"also \*([^*]+)\*", said))}


def first_uses(text: str) -> Iterator[tuple[str, int, int, bool]]:
    """Each word of the glossary that a text has: where it stands first, and whether a reader can follow it from there."""
    names, seen = glossary(), set[str]()
    plain = PLAIN.sub(lambda found: " " * len(found[0]), text)
    for phrase in OTHER:
        plain = plain.replace(phrase, " " * len(phrase))
    longest = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    for found in re.finditer(rf"(?<![\w-])({longest})(?:s|es)?(?![\w-])", plain, re.IGNORECASE):
        name, (begin, end) = names[found[1].lower()], found.span()
        if name not in seen:
            seen.add(name)
            leads = re.match(rf"[^\[\]]*\]\({PAGE}\)", text[end:]) is not None or text[begin - 1] == "*"
            yield name, begin, end, leads
