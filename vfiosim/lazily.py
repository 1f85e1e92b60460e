"""Names of a package whose modules are imported when somebody asks for one of them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazily(package: str, **names: tuple[str, ...]) -> Callable[[str], Any]:
    """The `__getattr__` of a package: by module the names that it has for the package. None of them is called as a module is."""
    modules = {name: module for module, some in names.items() for name in some}

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return find
