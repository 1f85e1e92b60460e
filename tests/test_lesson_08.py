"""The lesson about devices without DMA: what its tables say, its own solutions and typical wrong answers."""

from __future__ import annotations

import re

import pytest

from tests.cells import cells
from tests.conftest import ROOT
from tests.lesson_claims import ordered
from vfiosim.kernel.variants import VARIANTS
from vfiosim.lessons import no_dma as lesson
from vfiosim.lessons.no_dma_calls import DEVICES, KERNELS
from vfiosim.lessons.no_dma_questions import CHECK
from vfiosim.lessons.no_dma_shown import MAIL, SAME, our_line

TEXT = "\n".join(cells(ROOT / "notebooks" / "08_no_dma.ipynb", "markdown"))
ALL = {**lesson.LESSON.questions, **{question.name: question for question in CHECK}}
ANSWERS = {
    "two doors": "group",
    "zero": "ENOENT",
    "what became": "no node",
    "noiommu": ("v5", "v5r"),
    "without rights": "EPERM",
    "the number": "other",
    "08 check: ready for zero": "never",
    "08 an access": "ENOENT",
}


@pytest.mark.parametrize("name", ALL)
def test_the_answers_are_those_that_the_explanations_give(name):
    assert ALL[name].experiment().answer == ANSWERS[name]


def rows(html: str) -> list[list[str]]:
    return [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]


def test_the_new_words_are_explained():
    assert {"*emulated device*", "*access*", "*noiommu*"} <= set(
        re.findall(r"\*[\w ]+\*", TEXT.partition("## Predict")[2])
    )


def test_four_kernels_answer_for_five_devices():
    head, *lines = rows(lesson.fates()._repr_html_())
    assert head[1:] == [*KERNELS]
    said = {line[0].partition(":")[0]: line[1:] for line in lines}
    gone = "no node to open"
    assert said == {
        "nic": ["ID 1"] * 4,
        "ccw": ["ID 0", "ID 0", "ID 1", "ID 1"],
        "tty": ["ENODEV", "ID 0", "ID 1", "ID 1"],
        "led": ["ENODEV", "ID 0", gone, gone],
        "bare": ["ID 0", "ID 0", gone, gone],
    }


def test_the_steps_side_by_side_show_where_v5_stops_and_what_makes_the_id():
    columns = [*zip(*rows(lesson.side_by_side("tty")._repr_html_())[1:], strict=True)][1:]
    posted, answered, merged, today = columns
    assert [cell for cell in posted if cell][-4:] == [
        "Refused with ENODEV: its driver has no operation for binding.",
        "The call holds the file no more.",
        "The call returns −1, errno ENODEV.",
        "6 steps",
    ]
    assert [column[-1] for column in columns] == [f"{len(lesson.bind(one, 'tty').steps)} steps" for one in KERNELS]
    made = next(place for place, cell in enumerate(merged) if "gets an access object" in cell)
    assert (posted[made], answered[made], today[made]) == ("", "", SAME)
    written = [cell[:13] for column in columns for cell in column if cell.startswith("out_devid")]
    assert written == ["out_devid = 0", "out_devid = 1"]
    with pytest.raises(ValueError, match="no device 'fan'; there are nic, ccw"):
        lesson.side_by_side("fan")


def test_each_line_of_the_posted_function_stands_beside_a_line_of_ours_in_the_order_of_the_mail():
    table = [line for line in rows(lesson.mail()._repr_html_())[1:] if line[0]]
    assert all(sum(not cell for cell in column) < len(table) / 2 for column in zip(*table, strict=True))
    assert [line[0] for line in table] == [str(number + 1) for number in range(len(MAIL))]
    assert [line[1] for line in table if "Question" in line[1]] == [
        "Question 1: no operation: ENODEV",
        "Question 2: open the device",
    ]
    assert all(our_line(function, part) for _, _, function, part, _ in MAIL)
    with pytest.raises(ValueError, match="has 'goto'"):
        our_line(MAIL[0][2], "goto")


def test_what_the_mail_leaves_out_is_labelled_with_the_assumption_that_the_kernel_of_that_name_declares():
    below = {line[1].partition(": ")[2] for line in rows(lesson.mail()._repr_html_())[1:] if not line[0]}
    assert below == {f"{sentence.partition(':')[0]}." for sentence in VARIANTS["v5"].assumptions[:5]}
    assert all(assumed is not None for _, quoted, _, _, assumed in MAIL if not quoted)


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_can_be_put_into_the_cell_to_change(device):
    for kernel in KERNELS:
        made = lesson.bind(kernel, device)
        assert "returns" in made.steps[-1].sentence
        assert made.steps[-2].sentence


# ---- the tasks


def test_the_posted_function_is_put_into_its_order():
    assert "✓ Right." in ordered(lesson.order(), "argsz", "group", "bound", "iommufd", "open", "devid", "gate")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("argsz", "group", "bound", "iommufd", "open", "gate"), "So it opens when everything else is done."),
        (("argsz", "group", "access"), "A network card does DMA: it gets a device object."),
        (("argsz", "iommufd"), "The kernel first asks whether this file is bound already"),
    ],
)
def test_a_wrong_order_is_told_why(keys, said):
    assert said in ordered(lesson.order(), *keys)


def press(*fds: int) -> str:
    exercise = lesson.exercise()
    for fd in fds:
        exercise.bench.bind_fd.text.value = str(fd)
        exercise.bench.buttons["bind"].click()
    exercise.check.click()
    return exercise.message


def test_the_emulated_device_takes_the_first_id():
    assert "✓ Solved. You needed 2 calls; it takes no fewer." in press(3, 4)


def test_a_card_that_is_bound_first_has_the_first_id():
    message = press(4, 3)
    assert "wanted: devid of vfio_device_file 2 is 2; now: it is 1" in message
    assert "You bound the network card first" in message
