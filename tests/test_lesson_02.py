"""The lesson about who holds whom: its own solution is played, and a typical wrong answer, through what a reader can press."""

from __future__ import annotations

import nbformat
import pytest

from tests.conftest import ROOT
from tests.lesson_claims import ordered
from vfiosim.lab import Exercise
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons import who_holds_whom as lesson
from vfiosim.lessons.beginnings import bound_program

# ---- the questions


@pytest.mark.parametrize("name", ["a second open", "the last call", "weak", "a mapping"])
def test_what_stands_around_a_question_does_not_answer_it(name):
    written = nbformat.read(ROOT / "notebooks" / "02_who_holds_whom.ipynb", as_version=4).cells
    asked = next(n for n, cell in enumerate(written) if f'predict("{name}")' in cell.source)
    around = "\n".join(cell.source for cell in written[asked - 1 : asked + 3] if cell.cell_type == "markdown")
    for answer in (
        "same files",
        "do not hold",
        "not counted",
        "clears",
        "way to hold a file",
        "`close(3)`",
        "is freed",
    ):
        assert answer not in around


def test_a_mapping_alone_keeps_the_file():
    machine, process = bound_program()
    process.mmap(4096, 3, 3, 0)
    process.close(3)
    (path,) = machine.why("file vfio0#1").paths
    assert path.links[0].holder == "mm_struct vmm"


# ---- the tasks


def press(exercise: Exercise, fd: int, name: str) -> None:
    exercise.bench.fd.text.value = str(fd)
    exercise.bench.buttons[name].click()


def test_the_first_task_is_solved_by_bind_dup_close():
    exercise = lesson.exercise()
    assert not exercise.solved
    exercise.bench.bind_fd.text.value = "3"
    exercise.bench.struct["iommufd"].set(4)
    exercise.bench.buttons["bind"].click()
    press(exercise, 3, "dup")
    press(exercise, 4, "close")
    exercise.check.click()
    assert "✓ Solved. You needed 3 calls; it takes no fewer." in exercise.message


def test_closing_before_the_bind_loses_the_iommufd_and_that_is_said():
    exercise = lesson.exercise()
    press(exercise, 4, "close")
    exercise.check.click()
    assert "wanted: iommufd_ctx 1 is alive; now: it is gone" in exercise.message
    assert "Descriptor 4 was the only holder" in exercise.message


def test_a_second_open_is_no_second_holder():
    exercise = lesson.exercise()
    exercise.bench.buttons["open device"].click()
    exercise.check.click()
    assert "wanted: f_ref of file vfio0#1 is 2; now: it is 1" in exercise.message
    assert M.SECOND_OPEN_IS_FINE.name in exercise.message


@pytest.mark.parametrize(
    "keys", [("close 5", "del", "close 3"), ("del", "close 3", "close 5"), ("close 3", "del 5", "close 5")]
)
def test_the_second_task_has_several_right_orders(keys):
    assert "✓ Right." in ordered(lesson.order(), *keys)


def test_closing_first_leaves_nothing_to_name_the_file_by():
    message = ordered(lesson.order(), "close 5", "close 3", "del")
    assert "The first wrong place is number 3" in message
    assert "The kernel says EBADF: 3 is not an open file." in message
    assert "FILE_DEL finds the file by descriptor 3, and that is closed already." in message


def test_an_order_that_frees_too_much_is_told_what_should_have_stayed():
    assert "wanted: a descriptor leads to an iommufd; now: there is none" in ordered(
        lesson.order(), "del", "close 3", "close 5", "close 4"
    )
