"""Files that are not code: recorded kernel answers, styles, thumbnails, notebooks."""

import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def asset(name: str) -> Traversable:
    """Return the file `name`, a path below `assets/` written with slashes."""
    folder = _folder("assets")
    found = folder.joinpath(*name.split("/"))
    if not found.is_file():
        raise FileNotFoundError(f"vfiosim has no asset named {name!r} (looked in {folder})")
    return found


def notebooks() -> dict[str, bytes]:
    """The notebooks and what they link to, by name."""
    found = {file.name: file for file in _folder("notebooks").iterdir() if file.name.endswith((".ipynb", ".md"))}
    return {name: found[name].read_bytes() for name in sorted(found)}


@cache
def _folder(name: str) -> Traversable:
    """A wheel carries the folder inside the package; in a checkout it stands beside the package."""
    shipped = files("vfiosim") / name
    return shipped if shipped.is_dir() else Path(__file__).resolve().parent.parent / name


@cache
def palette() -> dict[str, str]:
    """What each colour stands for ("changed", "phase-lock"), and the colour, as `assets/palette.css` has it."""
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", asset("palette.css").read_text("utf-8")))


@cache
def style_sheet(name: str) -> str:
    """The text of a file of styles as a page needs it: without what only its readers need."""
    text = re.sub(r"/\*.*?\*/", "", asset(name).read_text("utf-8"), flags=re.DOTALL)
    return (
        re.sub(r"\s*([{};,>])\s*|(:)?\s+", lambda found: found[1] or found[2] or " ", text).replace(";}", "}").strip()
    )
