"""Files that are not code: recorded kernel answers, styles, thumbnails."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def asset(name: str) -> Traversable:
    """Return the file `name`, a path below `assets/` written with slashes.

    A wheel carries the folder inside the package; in a checkout it stands beside the package.
    """
    shipped = files("vfiosim") / "assets"
    folder = shipped if shipped.is_dir() else Path(__file__).resolve().parent.parent / "assets"
    found = folder.joinpath(*name.split("/"))
    if not found.is_file():
        raise FileNotFoundError(f"vfiosim has no asset named {name!r} (looked in {folder})")
    return found
