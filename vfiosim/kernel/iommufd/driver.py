"""What drivers of IOMMUs ask iommufd for (drivers/iommu/iommufd/driver.c, v7.2)."""

from __future__ import annotations

from ...engine import *
from ...uapi import Errno
from .eventq import INT_MAX, LOST
from .iommufd_private import IommufdViommu, device_of, iommufd_viommu_find_veventq


@kernel("drivers/iommu/iommufd/driver.c")
async def iommufd_viommu_get_vdev_id(viommu: IommufdViommu, dev: KObject) -> int | None:
    """The number by which a guest knows a device."""
    number = await next_slot(viommu.vdevs, 0)
    while number is not None:
        vdev = await xa_load(viommu.vdevs, number)
        if device_of(vdev) is dev:
            return number
        number = await next_slot(viommu.vdevs, number + 1)
    return None


@kernel("drivers/iommu/iommufd/driver.c")
async def iommufd_viommu_report_event(viommu: IommufdViommu, kind: int, data: bytes) -> None:
    """An event for the guest. EOPNOTSUPP if nobody waits for events of this type; a full queue notes that one was lost."""
    async with shared(viommu.veventqs_rwsem):
        queue = await require(
            await iommufd_viommu_find_veventq(viommu, kind), Errno.EOPNOTSUPP, "events_wanted", "there is no queue"
        )
        async with queue.lock:
            events, sequence = await load(queue.num_events), await load(queue.sequence)
            full = events == queue.depth
            event = (LOST if full else 0, sequence, b"" if full else data)
            before = tuple(other for other in await load(queue.deliver) if not other[0] & LOST)
            await store(queue.deliver, (*before, event))
            await store(queue.num_events, events + (not full))
            await store(queue.sequence, (sequence + 1) & INT_MAX)
        await complete(queue.news)
