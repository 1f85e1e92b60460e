"""Small named changes of kernel functions: they fit their originals, and what runs is what is shown."""

from __future__ import annotations

import inspect
import linecache
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from vfiosim import Machine
from vfiosim.engine import FUNCTIONS
from vfiosim.kernel.vfio.group import vfio_group_set_kvm
from vfiosim.machine import program_of
from vfiosim.museum import ROOMS
from vfiosim.puzzles import PUZZLES
from vfiosim.puzzles.changed import changed
from vfiosim.puzzles.programs import GROUP, list_file, new_vm
from vfiosim.views.sources import function_text

USED: list[Mapping[str, Callable[..., Any]]] = [
    *(functions for puzzle in PUZZLES.values() for functions in (puzzle.faulty, puzzle.fixes)),
    *(functions for room in ROOMS.values() for functions in (room.faulty, room.repair)),
]
ALL: dict[str, tuple[str, Callable[..., Any]]] = {
    function.__name__: (name, function) for functions in USED for name, function in functions.items()
}


def set_the_vm_twice(patch: str, function: Callable[..., Any] = vfio_group_set_kvm) -> Callable[..., Any]:
    def twice() -> None: ...

    twice.__doc__ = "As an example.\n\n" + patch.strip("\n")
    return changed(function)(twice)


TWICE = """
  await store(group.kvm, kvm)
+ await store(group.kvm, kvm)
"""


def test_a_change_keeps_all_lines_that_it_does_not_name() -> None:
    was, now = (
        [
            line
            for line in inspect.getsource(inspect.unwrap(each)).splitlines()
            if line.startswith("    ") and '"""' not in line
        ]
        for each in (vfio_group_set_kvm, set_the_vm_twice(TWICE))
    )
    assert now == [*was, was[-1]]
    assert was[-1].strip() == "await store(group.kvm, kvm)"


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ("- await store(group.kvm, None)", r"'await store\(group.kvm, None\)' 0 times, not once"),
        ("- await store(group.kvm, kvm)\n- return 0", r"'await store\(group.kvm, kvm\)' 0 times, not once"),
        ("- async with group.kvm_ref_lock:\n- await store(group.kvm, kvm)", "'async with group.kvm_ref_lock:' 0 times"),
    ],
)
def test_a_change_whose_lines_are_not_there_is_refused_in_a_sentence_with_its_name(patch: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"^twice: its original has the line {says}"):
        set_the_vm_twice(patch)


def test_a_change_whose_lines_are_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'await store\(group.kvm, kvm\)' 2 times, not once"):
        set_the_vm_twice(TWICE, set_the_vm_twice(TWICE))


def test_what_is_no_python_after_its_change_is_refused() -> None:
    with pytest.raises(SyntaxError):
        set_the_vm_twice("- async with group.kvm_ref_lock:\n+ async with group.kvm_ref_lock")


def test_a_changed_function_runs_in_the_place_of_its_original_and_the_trace_shows_the_changed_lines() -> None:
    machine = Machine("small")
    vmm = machine.process("vmm")
    _, kvm_vfio = new_vm(vmm)
    group = vmm.open(GROUP)
    machine.patch(vfio_group_set_kvm=set_the_vm_twice(TWICE))
    list_file(vmm, kvm_vfio, group)
    first, second = (one for one in machine.trace.micro if one.source == "await store(group.kvm, kvm)")
    assert first.line + 1 == second.line
    for one in (first, second):
        assert (one.file, one.function) == ("vfiosim/kernel/vfio/group.py (twice)", "vfio_group_set_kvm")
        _, text = function_text(one.file, one.line, one.function, one.source)
        assert '"""As an example."""' in text
        assert text.count("await store(group.kvm, kvm)") == 2


def test_the_file_of_a_change_is_that_of_the_original_but_for_the_changed_lines() -> None:
    code = set_the_vm_twice(TWICE).__code__
    was, now = (linecache.getlines(code.co_filename.removesuffix(end)) for end in (" (twice)", ""))
    assert len(now) == len(was) + 1 > 50
    assert now[: code.co_firstlineno] == was[: code.co_firstlineno]
    assert now[code.co_firstlineno + 4 :] == was[code.co_firstlineno + 3 :]


@pytest.mark.parametrize("name", ALL)
def test_a_function_of_a_puzzle_or_a_room_takes_what_its_original_takes(name: str) -> None:
    kernel, function = ALL[name]
    assert list(inspect.signature(function).parameters) == list(
        inspect.signature(FUNCTIONS[kernel].function).parameters
    )


@pytest.mark.parametrize("name", ALL)
def test_a_function_of_a_puzzle_or_a_room_is_imported_under_its_name(name: str) -> None:
    _, function = ALL[name]
    assert getattr(sys.modules[function.__module__], name) is function


def test_a_change_of_a_change_has_both() -> None:
    lock = "- async with group.kvm_ref_lock:\n+ async with group.group_lock:"
    text = inspect.getsource(set_the_vm_twice(lock, set_the_vm_twice(TWICE)))
    assert "group_lock" in text
    assert text.count("await store(group.kvm, kvm)") == 2


def test_what_changes_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^twice changes nothing$"):
        set_the_vm_twice("with no patch")


def test_code_of_a_run_with_a_changed_function_imports_it() -> None:
    machine = Machine("small")
    machine.patch(**PUZZLES["R9"].faulty)
    code = program_of(machine)
    assert "from vfiosim.puzzles.lifetimes import wait_and_then_delete_the_node" in code
    exec(compile(code, "the code of a run", "exec"), {})
