"""Rooms about VFIO itself: a way out that skips the unlock, a secret set too early, a check that only one way has."""

from __future__ import annotations

from functools import partial

from .. import uapi
from ..engine import Engine, load, store
from ..invariants.rules import Broken, rule
from ..kernel.vfio.container import vfio_fops
from ..kernel.vfio.device_cdev import vfio_df_ioctl_bind_iommufd
from ..kernel.vfio.group import (
    vfio_group_has_iommu,
    vfio_group_ioctl_set_container,
)
from ..kernel.vfio.pci.vfio_pci_priv import VfioPciCoreDevice, core_of
from ..kernel.vfio.vfio import VfioDevice, VfioGroup
from ..machine import Machine, Process
from ..puzzles.changed import changed
from ..puzzles.programs import IOMMU, bind
from .machines import CONSOLE, TOKEN_AT, opened_with_a_token, physical_function
from .requirements import close
from .room import Room
from .vfio_requirements import BACKENDS, FAILED, OPEN_CONSOLE, TAKE, TOKENS, TYPE1, UNLOCKED, give

# ---- the way out that skips the unlock


@changed(vfio_df_ioctl_bind_iommufd)
def bind_that_forgets_to_unlock() -> None:
    """VFIO_DEVICE_BIND_IOMMUFD as the series with the token first had it: a wrong token leaves at once.

    - async with on_failure(vfio_device_unblock_group, device):
    -     say(Phase.LOCK, "The lock of the device set: nobody else opens, binds or closes a device of this set now.")
    -     async with device.dev_set.lock:
    -         await bind_locked(df, bind, argument)
    + await acquire(device.dev_set.lock)
    + if not await load(df.access_granted):
    +     await vfio_df_check_token(device, bind)
    + async with on_failure(vfio_device_unblock_group, device):
    +     async with on_failure(release, device.dev_set.lock):
    +         await bind_locked(df, bind, argument)
    + await release(device.dev_set.lock)
    """


# ---- the secret that is set too early


@rule(
    VfioPciCoreDevice,
    "vfio_pci_core_device.vf_token",
    "vfio_pci_vf_token.uuid",
    "vfio_device.open_count",
    lock=lambda core: core.vdev.dev_set.lock,
    guard="vfio_device_set.lock",
)
def token_of_an_owner(engine: Engine, core: VfioPciCoreDevice) -> Broken:
    """In this room a token is set by a BIND that succeeds, and by nothing else."""
    secret = core.vf_token.value
    if secret is not None and secret.uuid.value is not None and not core.vdev.open_count.value:
        yield f"{core.vdev.oid} has a token that a refused BIND has set: users with the old token are locked out"


async def token_of(device: VfioDevice) -> bytes | None:
    """The token of a physical function; None where there is none, or nobody knows it."""
    secret = await load((await core_of(device)).vf_token) if device.ops.match_token_uuid is not None else None
    if secret is None:
        return None
    async with secret.lock:
        return await load(secret.uuid)


async def put_token_back(device: VfioDevice, before: bytes | None) -> None:
    """After a failure the token is the one that it was."""
    secret = await load((await core_of(device)).vf_token) if device.ops.match_token_uuid is not None else None
    if secret is not None:
        async with secret.lock:
            await store(secret.uuid, before)


@changed(vfio_df_ioctl_bind_iommufd)
def bind_puts_the_token_back() -> None:
    """VFIO_DEVICE_BIND_IOMMUFD: as ever, but a BIND that fails puts the token of a physical function back.

    -     await bind_locked(df, bind, argument)
    +     before = await token_of(device)
    +     async with on_failure(put_token_back, device, before):
    +         await bind_locked(df, bind, argument)
    """


# ---- the check that only one way has


def console_open_through_its_group(trace: bool = True) -> Machine:
    """The group of an emulated device (3) with an iommufd (4); the device is open as 5; 6 is a container."""
    machine = Machine("small", trace=trace)
    vmm = machine.process("vmm")
    group, ctx = vmm.open("/dev/vfio/4"), vmm.open(IOMMU)
    give_container(vmm, group, ctx)
    vmm.ioctl(group, uapi.VFIO_GROUP_GET_DEVICE_FD, bytearray(CONSOLE))
    vmm.open("/dev/vfio/vfio")
    return machine


def give_container(process: Process, group: int, container: int) -> None:
    """Give a group a container, or an iommufd."""
    process.ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, process.memory.map(4, container.to_bytes(4, "little")))


async def has_iommu(group: VfioGroup) -> bool:
    """Has the group a container or an iommufd?"""
    async with group.group_lock:
        return await vfio_group_has_iommu(group)


async def a_device_is_open(group: VfioGroup) -> bool:
    """Is a device of the group open?"""
    async with group.device_lock:
        devices = await load(group.device_list)
    for device in devices:
        async with device.dev_set.lock:
            if await load(device.open_count):
                return True
    return False


@changed(vfio_group_ioctl_set_container, vfio_fops=vfio_fops)
def set_container_only_if_closed() -> None:
    """VFIO_GROUP_SET_CONTAINER: as ever, but EBUSY for a container while a device is open that knows an iommufd.

    Asked before the group's lock is taken for good: a group with neither opens no device, so the answer can only become better.

    + late = file.f_op is vfio_fops and not await has_iommu(there(group)) and await a_device_is_open(there(group))
    + await refuse_if(late, Errno.EBUSY, "no_device_open_elsewhere", "a device of the group is open with an iommufd")
      await set_container(there(group), file)
    """


ROOMS = (
    Room(
        name="return-without-unlock",
        title="The return without an unlock",
        symptom="A BIND with a token that the device does not want is refused, as it should be. After that no "
        "device of the same set can be bound any more: every BIND hangs, and the group stays busy.",
        lesson="A new check in the middle of a function must leave by the same label as the checks around it.",
        alive=False,
        setup=partial(opened_with_a_token, "small"),
        calls={"A": [bind("vmm", token=TOKEN_AT), bind("vmm")]},
        properties=(),
        happens="vfio_device_set",
        must_still_work=UNLOCKED + TOKENS,
        faulty={"vfio_df_ioctl_bind_iommufd": bind_that_forgets_to_unlock},
        links=("report by Smatch on the VF token series, 16 July 2025; mended when it was applied",),
    ),
    Room(
        name="token-of-a-failed-bind",
        title="The token of a failed BIND",
        symptom="A program tries BIND on a physical function with a new token and a bad descriptor: EBADF. From then on "
        "the users of its virtual functions are refused with EACCES: their token is no longer the right one.",
        lesson="A check that also changes something has to come last, or be undone.",
        alive=True,
        setup=physical_function,
        calls={"A": [bind("vmm", ctx=777, token=TOKEN_AT)]},
        properties=(token_of_an_owner,),
        happens="a refused BIND has set",
        must_still_work=FAILED + TOKENS,
        repair={"vfio_df_ioctl_bind_iommufd": bind_puts_the_token_back},
        recordings=("q-failed-bind-sets-token",),
    ),
    Room(
        name="backend-switch",
        title="The check that only one way has",
        symptom="A group moves from an iommufd to a container while a device of it is open, and the device is "
        "opened once more. When both files are closed the group's own file is put once too often. The "
        "next call on it kills the program, or worse.",
        lesson="Two ways to the same state need the same check; what an open did has to be remembered, not "
        "guessed at the close.",
        alive=True,
        setup=console_open_through_its_group,
        calls={"A": [TAKE, give(6), TYPE1, OPEN_CONSOLE, close(5), close(7)]},
        properties=(),
        happens="gives up a use of its container that was never taken",
        must_still_work=BACKENDS,
        repair={"vfio_group_ioctl_set_container": set_container_only_if_closed},
        recordings=("d-switch-mdev-first", "d-switch-mdev-last", "i-switch-backend-first", "i-switch-backend-last"),
    ),
)
