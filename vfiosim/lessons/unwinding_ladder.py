"""BIND with its way out as a ladder of rungs: a failure enters at a rung and climbs down from there. The rungs in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..kernel.vfio.device_cdev import vfio_df_ioctl_bind_iommufd
from ..museum.student_source import function_of_text
from ..puzzles.unwinding import bind_opens_the_gate_too_early

NAME = "vfio_df_ioctl_bind_iommufd"
RUNGS = {  # what it gives back in the small language, and the sentence before it
    "close": ("await vfio_df_close(df)", "The device is closed again."),
    "vm": ("await vfio_device_put_kvm(device)", "The VM is given back."),
    "iommufd": ("await give_iommufd_back(df, ictx)", "The iommufd is given back."),
    "lock": ("await release(device.dev_set.lock)", "The lock of the device set is given back."),
    "group": ("await vfio_device_unblock_group(device)", "The group is unblocked."),
    "list": ("await store(df.kvm, None)", "The device's file forgets its VM."),
    "twice": ("await iommufd_ctx_put(ictx, df, BINDING)", "The iommufd is given back once more."),
    "iommufd if taken": ("if ictx is not None: await give_iommufd_back(df, ictx)", "The iommufd is given back."),
}
TEXT = '''async def vfio_df_ioctl_bind_iommufd(df, argument):
    """BIND with a way out of its own."""
    device, ictx = df.device, None
    bind = await read_bind_argument(argument)
    await vfio_device_block_group(device)
    say(Phase.LOCK, "The lock of the device set: nobody else opens, binds or closes a device of this set now.")
    await acquire(device.dev_set.lock)
    enters = {lock}
    try:
        ictx = await take_iommufd(df, bind.iommufd)
        say(Phase.ACQUIRE, "Does this file belong to a VM? If so, the device holds the VM from now on.")
        await vfio_df_get_kvm_safe(df)
        enters = {vm}
        await vfio_df_open(df)
        enters = {close}
        await publish_devid(df, argument + OUT_DEVID)
    except KernelError:
{rungs}
        raise
    await store(device.cdev_opened, True)
    await store_release(df.access_granted, True)
    await release(device.dev_set.lock)
    return 0
'''
RIGHT = ("close", "vm", "iommufd", "lock", "group")


def ladder(order: Sequence[str], **enters: str) -> dict[str, Callable[..., Any]]:
    """BIND with these rungs, from top to bottom, as `sweep` and `Machine.patch` take it.

    `enters`: by the rung that undoes what was taken last ("close", "vm", "lock"), the rung at which a failure then enters.
    """
    at = {name: enters.get(name, name) for name in RIGHT}
    places = {name: order.index(rung) if rung in order else len(order) for name, rung in at.items()}
    rungs = [
        f"        if enters <= {place}:\n            say(Phase.UNWIND, {RUNGS[key][1]!r})\n            {RUNGS[key][0]}"
        for place, key in enumerate(order)
    ]
    text = TEXT.format(rungs="\n".join(rungs), **places)
    return {NAME: function_of_text(text, {NAME: vfio_df_ioctl_bind_iommufd}).function}


JO = {  # Jo's patches: a line lost, a line too early on the good way, a line too early on the way out
    "lost block": ladder(RIGHT[:-1]),
    "lost VM": ladder(("close", "iommufd", "lock", "group"), vm="iommufd"),
    "gate": {NAME: bind_opens_the_gate_too_early},
    "tidy": ladder(("close", "lock", "vm", "iommufd if taken", "group"), vm="lock"),
}
