"""The laws of kernel code that no other tool checks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import vfiosim.machine  # noqa: F401  (loads every kernel file)
from vfiosim.engine import FUNCTIONS

KERNEL = Path(__file__).parents[1] / "vfiosim" / "kernel"
FILES = sorted(KERNEL.rglob("*.py"))
INSIDE_OF_CELLS = {"value", "held", "slots", "holder"}


def _functions(tree: ast.AST) -> list[ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(KERNEL).as_posix())
def test_kernel_code_reads_and_changes_cells_by_effects_only(path):
    for function in _functions(ast.parse(path.read_text())):
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute):
                inside = node.attr in INSIDE_OF_CELLS
                assert not inside, f"{path.name}:{node.lineno} reaches into a cell; await an effect"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(KERNEL).as_posix())
def test_kernel_code_unwinds_without_finally(path):
    for function in _functions(ast.parse(path.read_text())):
        for node in ast.walk(function):
            if isinstance(node, ast.Try):
                assert not node.finalbody, f"{path.name}:{node.lineno} has a finally"


def test_every_mirrored_function_says_where_it_comes_from():
    mirrored = [entry for entry in FUNCTIONS.values() if entry.function.__module__.startswith("vfiosim.kernel.")]
    assert len(mirrored) > 60
    for entry in mirrored:
        assert entry.file.endswith((".c", ".h")), entry
        assert entry.tag == "v7.2", entry
        assert entry.function.__doc__, entry


def test_every_refusal_of_the_kernel_has_a_name_and_a_sentence():
    names = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("refuse_if", "require"):
                name = node.args[2]
                assert isinstance(name, ast.Constant), f"{path.name}:{node.lineno}: the check's name is no plain string"
                assert len(node.args) == 4, (
                    f"{path.name}:{node.lineno}: a check has condition, errno, name and sentence"
                )
                names.add(name.value)
    assert len(names) > 30
