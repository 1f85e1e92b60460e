"""The errno atlas: what it tells is what the simulator does and what was recorded."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT
from vfiosim.cli import main
from vfiosim.conformance.recordings import recordings
from vfiosim.conformance.refusals import name_of, refusals
from vfiosim.explain import explain, known_refusals, page, unmet

RENEW = "python -m vfiosim explain --renew assets/records > notebooks/errno_atlas.md"


def test_every_program_of_the_atlas_meets_its_refusal_with_its_last_call() -> None:
    for refusal in known_refusals():
        with refusal.program.booted.lent() as begin:
            error = refusal.program.run(begin())
        assert error is not None, f"{refusal}: {RENEW}"
        met = (name_of(refusal.program.steps[-1]), error.name, error.check, error.sentence, error.kernel)
        assert met == (refusal.request, refusal.errno, refusal.check, refusal.sentence, refusal.kernel), RENEW


def test_the_page_is_what_the_code_writes_now() -> None:
    assert (ROOT / "notebooks" / "errno_atlas.md").read_text("utf-8") == "\n".join(page()) + "\n", RENEW


def test_the_page_begins_with_a_link_to_each_of_its_parts():
    told = "\n".join(page())
    assert re.findall(r"\]\(#(.*?)\)", told) == [
        one.replace(" ", "-") for one in re.findall("^## (.*)$", told, re.MULTILINE)
    ]


def test_each_line_of_the_page_says_how_it_is_known() -> None:
    tables, unrecorded = "\n".join(page()).split("## Read in the source, not recorded")
    rows = [re.split(r"(?<!\\) \| ", line) for line in tables.splitlines() if line.startswith("| E")]
    assert len(rows) == len(known_refusals())
    assert all(re.fullmatch(r"1 recorded call|\d+ recorded calls", row[3]) for row in rows)
    rest = [line for line in unrecorded.splitlines() if line.startswith("| E")]
    assert len(rest) == len(unmet())
    assert all(line.endswith("| read in the source |") for line in rest)


@pytest.mark.nightly
def test_the_atlas_is_what_the_recordings_meet() -> None:
    assert refusals(recordings([ROOT / "assets" / "records"])) == list(known_refusals()), RENEW


def test_a_terminal_is_told_the_checks_in_their_order_with_the_kernels_function_and_a_program(capsys) -> None:
    assert main(["explain", "VFIO_DEVICE_BIND_IOMMUFD", "EINVAL"]) == 0
    told = capsys.readouterr().out
    checks = ["argsz_minimum", "iommufd_not_negative", "flags_known", "not_from_group", "not_bound_yet", "single_open"]
    places = [told.index(f"check {check} in ") for check in checks]
    assert places == sorted(places)
    assert "struct vfio_device_bind_iommufd" in told
    assert "in vfio_df_open (drivers/vfio/vfio_main.c, v7.2)" in told
    assert told.count("ioctl(dev2, VFIO_DEVICE_BIND_IOMMUFD, iommufd=iommu)") == 1


def test_a_number_that_nobody_sends_on_purpose_is_told_what_it_was_meant_to_be() -> None:
    assert "those of VFIO_GROUP_SET_CONTAINER, whose number is 0x3b68" in str(explain(0x40043B68))
    assert "0x3b68 is VFIO_GROUP_SET_CONTAINER." in str(explain("15208"))
    assert "subsystem 0x12 (another one)" in str(explain("0x1234"))


def test_what_stands_in_the_way_is_named() -> None:
    assert "device mixB, which driver virtio-pci has" in str(explain("bind_iommufd", "EPERM"))
    assert "RLIMIT_MEMLOCK lets process main lock 64 KiB" in str(explain("VFIO_IOMMU_MAP_DMA", "ENOMEM"))
    assert "an iommufd has no such call" in str(explain("VFIO_DEVICE_BIND_IOMMUFD", "ENOTTY"))


def test_an_errno_alone_names_the_requests_that_are_answered_so() -> None:
    told = str(explain("EBUSY"))
    assert "VFIO_DEVICE_BIND_IOMMUFD: group_is_closed" in told
    assert "open: no_device_bound, group_not_open" in told
    assert str(explain("VFIO_DEVICE_BIND_IOMMUFD", 16)) == str(explain("VFIO_DEVICE_BIND_IOMMUFD", "ebusy"))


def test_an_errno_that_a_request_never_had_is_told_with_those_that_it_had() -> None:
    told = str(explain("VFIO_DEVICE_RESET", "E2BIG"))
    assert "No recorded call of it was refused with E2BIG; with " in told


@pytest.mark.parametrize(
    ("asked", "errno", "says"),
    [
        ("VFIO_DEVICE_BIND_IOMUFD", "", "near it are VFIO_DEVICE_BIND_IOMMUFD"),
        ("IOAS", "", "these are IOMMU_IOAS_ALLOC"),
        ("banana", "", "there is no request, system call or errno 'banana'"),
        ("open", "EMUCH", "there is no errno 'EMUCH'; one is EINVAL"),
    ],
)
def test_what_does_not_exist_is_told_with_what_is_near(asked: str, errno: str, says: str, capsys) -> None:
    with pytest.raises(ValueError, match=says):
        explain(asked, errno)
    assert main(["explain", asked, errno]) == 2
    assert says in capsys.readouterr().err


def test_a_refusal_is_shown_at_the_step_that_refuses() -> None:
    found = explain("VFIO_DEVICE_BIND_IOMMUFD", "EINVAL")
    number = [each.check for each in found.refusals].index("single_open") + 1
    player = found.show(number)
    assert player.trace[player.step - 1].sentence.startswith(
        "Refused with EINVAL: another file of this device is bound"
    )
    with pytest.raises(IndexError, match="there is no refusal 99"):
        found.show(99)


def test_checks_that_refused_no_recorded_call_are_listed_and_no_others() -> None:
    listed = {each.check for each in unmet()}
    assert "cache_coherent" in listed
    assert not listed & {each.check for each in known_refusals()}
    assert all(each.file.endswith((".c", ".h")) for each in unmet())
