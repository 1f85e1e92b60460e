"""A BAR that is lent to other devices (PCI_P2PDMA): what recordings cannot see, where its mapping leads, and races.

What the calls answer is recorded (`assets/records/config-p2pdma*`).
"""

from __future__ import annotations

import pytest

from tests.calls import PAGE, READ_WRITE, Space, refused
from tests.edu import BUFFER, COMMAND, MASTER, MEMORY, copy, put
from vfiosim import Machine, Unsupported, uapi
from vfiosim.explore import explore

LEND = uapi.VFIO_DEVICE_FEATURE_GET | uapi.VFIO_DEVICE_FEATURE_DMA_BUF
PIECE = bytes(uapi.VfioDeviceFeatureDmaBuf(open_flags=2, nr_ranges=1)) + bytes(uapi.VfioRegionDmaRange(length=PAGE))
ASKED = bytes(uapi.VfioDeviceFeature(argsz=8 + len(PIECE), flags=LEND)) + PIECE


def lending(config: str = "PCI_P2PDMA=y", trace: bool = True) -> tuple[Space, int]:
    """A program with an edu that has lent the first page of its BAR, and an address space that the edu uses."""
    s = Space(Machine("lab", config=config, trace=trace).process("vmm"))
    return s, s.p.ioctl(s.dev, uapi.VFIO_DEVICE_FEATURE, s.p.memory.map(PAGE, ASKED))


def test_a_kernel_without_the_switch_does_not_know_the_feature():
    assert refused(lending, "") == "ENOTTY"


def test_dma_reaches_what_is_lent_until_the_function_stops_answering_and_never_again_by_the_old_mapping():
    s, lent = lending()
    s.attach()
    place = s.map_file(lent)
    put(s.p, s.dev, COMMAND, MEMORY | MASTER, 2)
    with pytest.raises(Unsupported, match="DMA to registers of a device"):
        copy(s.p, s.dev, place, BUFFER)

    put(s.p, s.dev, COMMAND, MASTER, 2)
    put(s.p, s.dev, COMMAND, MEMORY | MASTER, 2)
    copy(s.p, s.dev, place, BUFFER)  # the IOMMU reports that it tried

    again = s.map_file(lent)
    assert again != place
    with pytest.raises(Unsupported):
        copy(s.p, s.dev, again, BUFFER)


def test_who_has_a_lent_bar_open_does_not_hold_up_the_driver_and_a_mapping_of_it_neither():
    s, lent = lending()
    s.map_file(lent)
    m = s.p.machine
    leaving = m.process("admin").start(
        "write_file", "/sys/bus/pci/drivers/vfio-pci/unbind", m.built.devices["pci0"].address
    )
    assert leaving.state != "done"
    s.p.close(s.dev)
    assert leaving.state == "done"
    assert refused(s.map_file, lent) == "ENODEV"
    s.p.close(lent)
    s.unmap()
    assert m.check() == []


MAP = uapi.IommuIoasMapFile(flags=READ_WRITE, ioas_id=2, fd=5, length=PAGE)
RACES = [
    pytest.param(("write", 4, bytes(2), COMMAND), id="memory off"),
    pytest.param(("close", 4), id="last close", marks=pytest.mark.nightly),
]


@pytest.mark.parametrize("against", RACES)
def test_whoever_takes_a_lent_bar_away_may_meet_its_last_file_and_a_mapping_of_it_in_any_order(against):
    def machine() -> Machine:
        return lending(trace=False)[0].p.machine

    programs = {
        "A": [("vmm", *against)],
        "B": [("vmm", "ioctl", 3, uapi.IOMMU_IOAS_MAP_FILE, MAP)],
        "C": [("vmm", "close", 5)],
    }
    found = explore(machine, programs, [], seconds=60)
    assert (found.verdict, found.limit) == ("safe", "")
    assert {dict(outcome)["B"] for outcome in found.outcomes} == {("0",), ("ENODEV",), ("EBADF",)}
