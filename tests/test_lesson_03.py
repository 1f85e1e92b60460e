"""The lesson about the order of checks: its claims hold, its solutions pass, and typical wrong answers are told what is wrong."""

from __future__ import annotations

import re
from itertools import combinations, pairwise, product

import pytest

from tests.cells import cells, code_of
from tests.conftest import ROOT
from tests.figures import unreadable
from tests.lesson_claims import ordered
from vfiosim.assets import palette
from vfiosim.lab import Exercise
from vfiosim.lab.record import progress
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons import order_of_checks as lesson
from vfiosim.lessons.beginnings import DEVICE
from vfiosim.lessons.order_of_checks import MISTAKES, NOT_OF_BIND
from vfiosim.lessons.order_of_checks_causes import CAUSES, refused
from vfiosim.lessons.order_of_checks_plot import bars
from vfiosim.lessons.order_of_checks_probes import PROBES

NOTEBOOK = ROOT / "notebooks" / "03_order_of_checks.ipynb"
TEXT = "\n".join(cells(NOTEBOOK, "markdown"))
NUMBERS = {"one": 1, "two": 2, "three": 3, "five": 5, "nine": 9}
NEAR = 3  # places in the list
ANY_ORDER = {  # the second takes away what the first is about
    ("tail", "cut"),
    ("token's pointer", "token"),
    ("another file", "host driver"),
}


# ---- the causes


@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_alone_makes_a_good_bind_fail_and_all_is_given_back(name):
    assert not refused().outcome.refused
    assert refused(name).outcome.refused
    assert refused(name).outcome.left == ()


def test_of_two_causes_that_are_near_each_other_the_one_that_is_listed_first_wins():
    tried = 0
    for early, late in combinations(enumerate(CAUSES), 2):
        if late[0] - early[0] > NEAR or (early[1], late[1]) in ANY_ORDER:
            continue
        try:
            both = refused(early[1], late[1]).outcome
        except ValueError:
            continue
        tried += 1
        assert (both.result, both.check) == (refused(early[1]).outcome.result, refused(early[1]).outcome.check)
    assert tried > 18


def test_every_check_of_bind_that_says_one_of_these_errnos_is_met_by_a_cause():
    met = {refused(name).outcome.check for name in CAUSES}
    source = (ROOT / "vfiosim/kernel/vfio/device_cdev.py").read_text("utf-8").partition("async def vfio_df_unbind")[0]
    assert {check for errno, check in re.findall(r'Errno\.(\w+), "(\w+)"', source) if errno != "ENODEV"} <= met


def test_causes_that_do_not_go_together_or_do_not_exist_are_named():
    with pytest.raises(ValueError, match="short and long do not go together in one BIND"):
        lesson.refused("short", "long")
    with pytest.raises(ValueError, match="there is no cause 'wrong'; there are no struct, short"):
        lesson.refused("wrong")


# ---- what the prose says


def test_the_notebook_counts_the_causes_rightly():
    assert len(CAUSES) == 22
    assert "22 things that can be wrong with a BIND" in TEXT
    assert "That line has nine causes." in TEXT
    assert len(lesson.causes("EINVAL")) == NUMBERS["nine"]


def test_the_table_of_what_calls_had_taken_has_every_cause_in_its_order_and_grows():
    rows = lesson.taken().rows
    assert [name for names, _ in rows for name in names] == list(CAUSES)
    named = [
        set(re.findall(r"blocked|group$|device_set|iommufd.s file|driver|iommufd_device", " ".join(kinds)))
        for _, kinds in rows
    ]
    assert named[0] == set()
    for before, after in pairwise(named[2:]):
        assert before - {"group"} <= after
    assert named[-1] >= {"blocked", "device_set", "iommufd's file", "driver", "iommufd_device"}
    html = lesson.taken()._repr_html_()
    assert all(name.replace("'", "&#x27;") in html for name in CAUSES)


def test_a_line_counts_what_the_table_names():
    """`another file`: the group is blocked, and a lock and the iommufd are held."""
    assert "holding 3:" in str(refused("another file"))
    assert ["another file"] in [names for names, kinds in lesson.taken().rows if len(kinds) == 3]


@pytest.mark.parametrize("probe", ["group", "closed"])
def test_a_probe_comes_up_if_the_cause_lies_behind_it_and_else_does_not(probe):
    place = list(CAUSES).index(probe)
    for name in ("flags", "no tokens", "not coherent"):
        errno = refused(name, probe).outcome.result
        assert errno == refused(probe if place < list(CAUSES).index(name) else name).outcome.result


def test_the_two_probes_tell_the_three_causes_of_the_notebook_apart_and_the_third_tells_nothing():
    names = ("flags", "no tokens", "not coherent")
    assert 'for name in ("flags", "no tokens", "not coherent")' in code_of(NOTEBOOK.stem)
    assert len({tuple(refused(name, probe).outcome.result for probe in ("group", "closed")) for name in names}) == 3
    assert {refused(name, "read-only").outcome.result for name in names} == {"EINVAL"}


def test_on_the_bench_each_new_mistake_hides_the_one_before():
    bench, met = lesson.jo(), []
    bench.bind_fd.text.value = "5"
    bench.struct["iommufd"].set(4)
    for field, value in (("argsz", 24), ("iommufd", 777), ("flags", 2), ("argsz", 8)):
        bench.struct[field].set(value)
        bench.buttons["bind"].click()
        met.append((bench.session.done[-1].outcome.result, bench.session.done[-1].outcome.check))
    assert [errno for errno, _ in met] == ["EINVAL", "EBADF", "EINVAL", "EINVAL"]
    assert len({check for _, check in met}) == 4


def test_the_plot_has_a_bar_of_as_many_pieces_as_a_call_has_steps_and_an_errno_stands_out():
    (axes,) = bars("EPERM").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CAUSES)
    assert list(map(len, axes.containers)) == [len(refused(name).way) for name in CAUSES]
    bright = {text.get_text().split()[0] for text in axes.texts if text.get_alpha() == 1}
    assert bright == {"EPERM"}
    assert "another file: EINVAL, 11 steps" in repr(lesson.ladder("EPERM"))


def test_the_plot_reads_on_a_light_page_and_on_a_dark_one():
    assert unreadable(lesson.ladder("EINVAL")) == []


def test_the_plot_has_the_players_colours_for_the_phases():
    from matplotlib.colors import to_hex  # what other workers need not import

    (axes,) = bars("").axes
    key = axes.get_legend()
    assert key is not None
    shown = {
        text.get_text(): to_hex(patch.get_facecolor()) for text, patch in zip(key.texts, key.get_patches(), strict=True)
    }
    assert len(shown) == 5
    assert shown == {phase: palette()[f"phase-{phase}"] for phase in shown}


# ---- the questions


# ---- the first task: six mistakes


def test_six_mistakes_are_met_in_the_order_of_the_checks_each_with_its_own_errno():
    assert "✓ Right." in ordered(lesson.order(), *MISTAKES)
    met = [refused(*MISTAKES[number:]).outcome.result for number in range(len(MISTAKES))]
    assert met == ["E2BIG", "EINVAL", "EBUSY", "EFAULT", "EBADF", "EPERM"]
    assert ", ".join(met) in lesson.SIX_MISTAKES.because


def test_a_wrong_order_is_refuted_by_a_bind_with_both_mistakes():
    for early, late in combinations(MISTAKES, 2):
        judged = lesson.SIX_MISTAKES.judge((*MISTAKES[: MISTAKES.index(early)], late))
        assert judged.reason == refused(early).outcome.result
        assert judged.trace[judged.step - 1].refused == judged.reason
    message = ordered(lesson.order(), "tail", "flags", "group", "closed", "token's pointer", "host driver")
    assert "The first wrong place is number 4" in message
    assert "in one BIND the kernel says EFAULT: that comes first." in message
    assert M.ALL_CHECKS_AT_ONCE.name in message


def test_what_is_missing_and_what_does_not_belong_there_are_told():
    assert "When these are mended the kernel still says EPERM." in ordered(lesson.order(), *MISTAKES[:-1])
    assert "BIND looks for no such thing." in ordered(lesson.order(), "tail", NOT_OF_BIND)


# ---- the second and the third task


def bind(exercise: Exercise, fd: int, **fields: int) -> None:
    for name, value in {"argsz": 24, "flags": 0, "iommufd": 4, "token_uuid_ptr": 0, **fields}.items():
        exercise.bench.struct[name].set(value)
    exercise.bench.bind_fd.text.value = str(fd)
    exercise.bench.buttons["bind"].click()


def checked(exercise: Exercise) -> str:
    exercise.check.click()
    return exercise.message


def test_nine_refusals_are_met_with_one_field_changed_each():
    exercise = lesson.errors()
    assert "Make a call first" in checked(exercise)
    for fd, field in (
        *((3, {"argsz": size}) for size in (0, 100)),
        *((fd, {"flags": flags}) for fd, flags in ((5, 4), (5, 1), (3, 1))),
        *((3, {"iommufd": number}) for number in (-5, 20, 5)),
        (6, {}),
    ):
        bind(exercise, fd, **field)
    assert "✓ Solved. You needed 9 calls; it takes no fewer." in checked(exercise)


def test_a_refusal_with_two_fields_changed_counts_for_none():
    exercise = lesson.errors()
    bind(exercise, 3, argsz=8, flags=2)
    message = checked(exercise)
    assert "with only argsz changed: 2 more refusals" in message
    assert "with only flags changed: 3 more refusals" in message
    assert M.ALL_CHECKS_AT_ONCE.name in message


def test_who_binds_a_device_is_told_what_that_shuts_off():
    exercise = lesson.errors()
    bind(exercise, 3)
    assert "A device is bound now" in checked(exercise)
    exercise.bench.undo.click()
    bind(exercise, 6)
    assert "A device is bound now" not in checked(exercise)
    assert "with no field changed" not in exercise.message


def reproduced(*presses: str) -> str:
    exercise = lesson.exercise()
    for press in presses:
        if press.startswith("bind"):
            bind(exercise, int(press[-1]))
        else:
            exercise.bench.fd.text.value = "3"
            exercise.bench.buttons[press].click()
    return checked(exercise)


def test_the_smallest_program_is_refused_once_with_one_file_and_once_with_two():
    assert "✓ Solved. You needed 4 calls; it takes no fewer." in reproduced("bind 3", "bind 3", "open device", "bind 5")


def test_a_dup_is_the_same_file_and_a_wrong_field_is_another_cause():
    message = reproduced("bind 3", "dup", "bind 5")
    assert "by a program that has two files of the device" in message
    assert M.SECOND_OPEN_IS_FINE.name in message
    exercise = lesson.exercise()
    bind(exercise, 3, flags=2)
    assert M.ERRNO_IS_A_CAUSE.name in checked(exercise)


def test_no_program_of_three_calls_meets_both():
    calls = (
        lambda session: session.bind(3, argsz=24, iommufd=4),
        lambda session: session.bind(5, argsz=24, iommufd=4),
        lambda session: session.open(DEVICE),
        lambda session: session.dup(3),
    )
    for program in product(calls, repeat=3):
        session = lesson.GOOD_STRUCT.begun()
        for call in program:
            call(session)
        assert lesson.GOOD_STRUCT.missing(session)


# ---- the task with two probes


def probed(*probes: str) -> str:
    task = lesson.probes()
    task.choice.value = probes
    task.check.click()
    return task.message


def test_of_four_probes_only_those_on_both_sides_of_the_token_tell_the_three_causes_apart():
    right = [pair for pair in combinations(PROBES, 2) if probed(*pair).startswith("✓ Right.")]
    assert right == [("group", "closed"), ("group", "another kind")]


def test_who_chooses_other_probes_is_shown_what_the_kernel_says_to_them_and_which_causes_look_alike():
    assert probed("group") == "Tick two of them: you may bind twice."
    said = probed("group", "read-only")
    assert "“a token, and a driver that knows none” and “the IOMMU does not keep caches coherent” give the same" in said
    assert "flags is 2 EINVAL EINVAL a token, and a driver that knows none EBUSY EINVAL" in said
    assert "All three give the same two answers." not in said


def test_the_table_of_the_probes_waits_for_the_task():
    progress.reset()
    kept_back = lesson.once_answered("two probes", "the table")
    assert "the table" not in kept_back.message
    probed("closed", "read-only")
    assert kept_back.message == "the table"
