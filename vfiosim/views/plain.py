"""A picture without what only a script or a mouse would look for: for pages that run none, and smaller."""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

SVG = "http://www.w3.org/2000/svg"
NEEDLESS = ("id", "data-", "aria-")  # beginnings of names of attributes
# What is to be seen only in a part of one of these classes, by assets/graph.css.
SEEN_IN = {"badge": {"new", "gone"}, "minus": {"gone"}, "bar": {"read", "changed", "new", "gone", "harmed", "refused"}}


def plain(svg: str) -> Element:
    """The picture as a tree, without names, titles, badges that are not to be seen and empty texts, in whole units."""
    root = ElementTree.fromstring(svg)
    for part in root.iter():
        part.tag = part.tag.removeprefix(f"{{{SVG}}}")
        part.attrib = {name: _whole(value) for name, value in part.items() if not name.startswith(NEEDLESS)}
        classes = part.get("class", "").split()
        if classes:
            part.set("class", " ".join(classes))
        for child in [*part]:
            needs = SEEN_IN.get(child.get("class", ""))
            empty = child.tag == f"{{{SVG}}}text" and not child.text and not len(child)
            if empty or child.tag == f"{{{SVG}}}title" or (needs is not None and needs.isdisjoint(classes)):
                part.remove(child)
    root.set("xmlns", SVG)
    return root


def text(part: Element) -> str:
    """A part of a picture, or the whole, as it is written in a file."""
    return ElementTree.tostring(part, encoding="unicode")


def _whole(value: str) -> str:
    return re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.0f}", value)
