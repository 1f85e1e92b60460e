"""The laws of kernel code that no other tool checks."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import vfiosim.machine  # noqa: F401  (loads every kernel file)
from vfiosim import Machine
from vfiosim.engine import FUNCTIONS, init
from vfiosim.engine.grammar import refusals
from vfiosim.explain import known_refusals
from vfiosim.kernel.fs.file import File

ROOT = Path(__file__).parents[1] / "vfiosim"
KERNEL = ROOT / "kernel"
FILES = sorted(KERNEL.rglob("*.py"))
INSIDE_OF_CELLS = {"value", "held", "slots", "holder"}
# Who looks at a machine from outside may look into cells; nothing of the kernel does: what is built before any call, and words
# for a refusal.
FROM_OUTSIDE = {"boot.py": "Built", "bus.py": "Unfit", "iommu.py": "OwnedBy", "pci_reset.py": "LockTaken"}


def _at_birth(tree: ast.AST) -> set[ast.AST]:
    """The stores in constructors: they say what a cell holds at first."""
    made = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    inside = (node for function in made for node in ast.walk(function))
    return {node for node in inside if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}


def _reaching(path: Path) -> Iterator[int]:
    """The lines that reach into a cell, wherever they stand: functions of every kind, methods, lambdas."""
    tree = ast.parse(path.read_text())
    outside = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == FROM_OUTSIDE.get(path.name)]
    allowed = _at_birth(tree).union(*map(ast.walk, outside))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in INSIDE_OF_CELLS and node not in allowed:
            yield node.lineno


def test_kernel_code_reads_and_changes_cells_by_effects_only():
    reaching = [f"{path}:{line} reaches into a cell; await an effect" for path in FILES for line in _reaching(path)]
    assert reaching == []


def test_kernel_code_unwinds_without_finally():
    for path in FILES:
        tries = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Try | ast.TryStar)]
        assert [f"{path}:{node.lineno} has a finally" for node in tries if node.finalbody] == []


# What is called before any call, or for the computer that this runs on, needs no small language.
OUTSIDE = {"outside.py", "host.py", "variants.py"}
AT_LOAD = {"kvm_register_device_ops"}
WRITTEN_SO = [
    path for folder in ("kernel", "puzzles", "museum", "lessons") for path in sorted((ROOT / folder).rglob("*.py"))
]


def test_our_own_functions_are_written_in_the_small_language_too():
    """So a search sees all that one call can know of another; around kernel functions stands what makes machines."""
    assert [wrong for path in WRITTEN_SO for wrong in _refused(path)] == []


def _refused(path: Path) -> Iterator[str]:
    """What stands in the kernel functions of a file and is not of the small language."""
    names = {**vars(builtins), **vars(importlib.import_module(dotted(path)))}
    kinds = ast.FunctionDef | ast.AsyncFunctionDef if KERNEL in path.parents else ast.AsyncFunctionDef
    for function in (node for node in ast.parse(path.read_text()).body if isinstance(node, kinds)):
        if path.name not in OUTSIDE and function.name not in AT_LOAD:
            function.decorator_list.clear()  # such as @kernel
            for at, what in refusals(function, names, strict=True):
                yield f"{path}:{getattr(at, 'lineno', 0)} {what}"


def dotted(path: Path) -> str:
    """The module that a file is."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_what_an_object_is_not_born_with_is_given_to_it_once():
    file = Machine().process("p").task.files.fd.slots[0]
    assert isinstance(file, File)
    init(file, cdev=file)
    with pytest.raises(RuntimeError, match=r"^file terminal(#1)?\.cdev is set already, and never changes"):
        init(file, cdev=file)


def _decorated(path: Path) -> int:
    """How many functions of a file stand under @kernel(…)."""
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.AsyncFunctionDef)]
    decorators = [one for function in functions for one in function.decorator_list if isinstance(one, ast.Call)]
    return sum(ast.unparse(one.func) == "kernel" for one in decorators)


def test_every_mirrored_function_says_where_it_comes_from():
    mirrored = [entry for entry in FUNCTIONS.values() if entry.function.__module__.startswith("vfiosim.kernel.")]
    assert len(mirrored) == sum(map(_decorated, FILES))
    for entry in mirrored:
        assert entry.file.endswith((".c", ".h")), entry
        assert entry.tag == "v7.2", entry
        assert entry.function.__doc__, entry


def test_every_function_that_is_called_before_its_file_is_loaded_is_defined():
    declared = [
        node for node in ast.walk(ast.parse((KERNEL / "prototypes.py").read_text())) if isinstance(node, ast.ImportFrom)
    ]
    names = {name.name: f"vfiosim.kernel.{node.module}" for node in declared if node.level == 1 for name in node.names}
    assert names
    assert {name: FUNCTIONS[name].function.__module__ for name in names} == names


def test_every_refusal_of_the_kernel_has_a_name_and_a_sentence():
    named = {name for path in FILES for name in _named_refusals(path)}
    met = {each.check for each in known_refusals()}
    assert met - named <= {*NOT_CHECKS}, "the recorded kernel refused by it, and no file has it"


# What refuses with a name and is no check of a condition.
NOT_CHECKS = ("copy_from_user", "copy_to_user", "guest_knows_device", "pin_pages")


def _named_refusals(path: Path) -> Iterator[str]:
    text = path.read_text()
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    checks = [node for node in calls if getattr(node.func, "id", "") in ("refuse_if", "require")]
    assert len(checks) == len(re.findall(r"\b(?:refuse_if|require)\(", text))  # none by another name
    for node in checks:
        where = f"{path.name}:{node.lineno}"
        assert len(node.args) == 4, f"{where}: a check has condition, errno, name and sentence"
        name, sentence = node.args[2:]
        assert isinstance(name, ast.Constant), f"{where}: the check's name is no plain string"
        assert re.fullmatch(r"[a-z][a-z0-9_]+", str(name.value)), f"{where}: {name.value!r} is no name"
        assert not isinstance(sentence, ast.Constant) or len(str(sentence.value).split()) > 2, f"{where}: no sentence"
        yield str(name.value)
