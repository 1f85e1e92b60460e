"""A hazard of devices as guests know them: the device goes, and what stands for it in a guest must not stay behind."""

from __future__ import annotations

from .. import uapi
from ..kernel.iommufd.main import iommufd_object_dec_wait
from ..machine import Machine
from .changed import changed
from .programs import IOMMU, ask, make
from .puzzle import Puzzle, can_end

CTX = 3
IOAS, TEST, DEVICE, PARENT, VIOMMU, VDEVICE = 1, 2, 3, 5, 6, 7  # IDs, in the order in which they are given out


def _a_guest(trace: bool = True) -> Machine:
    """An iommufd with a mock device, and a virtual IOMMU that a guest could get."""
    machine = Machine("small", trace=trace)
    machine.process("vmm").open(IOMMU)
    mock = uapi.IommuTestCmd(op=uapi.IOMMU_TEST_OP_MOCK_DOMAIN, id=IOAS)
    parent = uapi.IommuHwptAlloc(flags=uapi.IOMMU_HWPT_ALLOC_NEST_PARENT, dev_id=DEVICE, pt_id=IOAS)
    virtual = uapi.IommuViommuAlloc(type=uapi.IOMMU_VIOMMU_TYPE_SELFTEST, dev_id=DEVICE, hwpt_id=PARENT)
    return make(
        machine,
        ask(uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc(), CTX),
        ask(uapi.IOMMU_TEST_CMD, mock, CTX),
        ask(uapi.IOMMU_HWPT_ALLOC, parent, CTX),
        ask(uapi.IOMMU_VIOMMU_ALLOC, virtual, CTX),
    )


def _a_virtual_device(trace: bool = True) -> Machine:
    """The same, where the guest has the device."""
    wanted = uapi.IommuVdeviceAlloc(viommu_id=VIOMMU, dev_id=DEVICE, virt_id=9)
    return make(_a_guest(trace), ask(uapi.IOMMU_VDEVICE_ALLOC, wanted, CTX))


@changed(iommufd_object_dec_wait)
def go_without_waiting() -> None:
    """It waits for nobody, and takes nothing along.

    - if await put(obj.wait_cnt, ictx, "has its ID"):
    -     return True
    + await put(obj.wait_cnt, ictx, "has its ID")
    + return True
    """


R20 = Puzzle(
    name="R20",
    title="a device goes while its virtual device is destroyed",
    story="A guest knows a device by a virtual one. One thread takes the real device away, another one destroys the virtual one "
    "by its ID. The first of them destroys the virtual device, the other one must not; and the real device has to wait until no "
    "call works on the virtual one any more.",
    setup=_a_virtual_device,
    calls={
        "A": [ask(uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=TEST), CTX)],
        "B": [ask(uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=VDEVICE), CTX)],
    },
    properties=(
        "dma_has_one_owner",
        can_end("the virtual device goes first, then the device", A="0", B="0"),
        can_end("the device takes its virtual device along; the ID leads nowhere", A="0", B="ENOENT"),
        can_end("the device is destroying it at this moment: EBUSY", A="0", B="EBUSY"),
    ),
    without=("takes it along",),
    faulty={"iommufd_object_dec_wait": go_without_waiting},
    happens="use after free",
    shortest=(113, 122),
    leaves_out=("published_object_is_held",),
    source="drivers/iommu/iommufd/device.c: iommufd_device_remove_vdev; main.c: iommufd_object_dec_wait (v7.2)",
)

PUZZLES = (R20,)
