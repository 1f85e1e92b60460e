"""The secret between a physical function and its virtual functions (drivers/vfio/pci/vfio_pci_core.c, v7.2)."""

from __future__ import annotations

from ....engine import Phase, alloc, copy_from_user, free, kernel, load, peek, refuse_if, say, store
from ....uapi import Errno
from ..device_info import SET, vfio_check_feature
from ..vfio import VfioDevice
from .vfio_pci_priv import VfioPciCoreDevice, VfioPciVfToken, core_of


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_match_token_uuid(device: VfioDevice, token: bytes | None) -> None:
    """Is this the secret? EACCES where one is needed and it is missing or another, EINVAL where none is needed.

    A physical function without an open virtual function takes what it is given as the new secret, whatever comes afterwards.
    """
    core = await core_of(device)
    if device.dev.spec.physfn:
        await match_token_of_vf(core, token)
        return
    secret = await load(core.vf_token)
    if secret is None:
        await refuse_if(
            token is not None, Errno.EINVAL, "no_token_needed", "this device needs no token, yet one was given"
        )
        return
    async with secret.lock:
        if await load(secret.users):
            wrong = token is None or token != await load(secret.uuid)
            await refuse_if(wrong, Errno.EACCES, "token_matches", "its virtual functions are in use: show their token")
        elif token is not None:
            say(Phase.PUBLISH, "No virtual function is open: what was given becomes the token of {}, at once.", device)
            await store(secret.uuid, token)


async def match_token_of_vf(core: VfioPciCoreDevice, token: bytes | None) -> None:
    """A virtual function: its physical function's secret, if vfio-pci has that too."""
    pf = await load(core.sriov_pf_core_dev)
    if pf is None:
        await refuse_if(
            token is not None, Errno.EINVAL, "no_token_needed", "vfio-pci does not have its physical function"
        )
        return
    await refuse_if(
        token is None, Errno.EACCES, "token_given", "a virtual function needs the token of its physical function"
    )
    secret = await load(pf.vf_token)
    assert secret is not None
    async with secret.lock:
        right = await load(secret.uuid)
    await refuse_if(token != right, Errno.EACCES, "token_matches", "this is not the token of its physical function")


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_feature_token(core: VfioPciCoreDevice, flags: int, data: int, room: int) -> int:
    """VFIO_DEVICE_FEATURE_PCI_VF_TOKEN: set the secret, also while virtual functions are open. ENOTTY, EINVAL, EFAULT."""
    secret = await load(core.vf_token)
    await refuse_if(secret is None, Errno.ENOTTY, "device_has_feature", "the device has no virtual functions")
    assert secret is not None
    if not await vfio_check_feature(flags, room, SET, 16):
        return 0
    uuid = await copy_from_user(data, 16)
    async with secret.lock:
        await store(secret.uuid, uuid)
    return 0


async def vf_token_open(core: VfioPciCoreDevice) -> None:
    """An open virtual function is counted."""
    await count_user(core, 1)


async def vf_token_close(core: VfioPciCoreDevice) -> None:
    """A closed one no longer."""
    await count_user(core, -1)


async def count_user(core: VfioPciCoreDevice, by: int) -> None:
    """Change how many virtual functions of a physical function are open."""
    pf = await load(core.sriov_pf_core_dev)
    secret = await load(pf.vf_token) if pf is not None else None
    if secret is not None:
        async with secret.lock:
            await store(secret.users, await load(secret.users) + by)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_vf_init(device: VfioDevice, can_have_vfs: bool) -> None:
    """A physical function gets a secret; a virtual one finds its physical function, if vfio-pci has it."""
    core = await core_of(device)
    if can_have_vfs:
        await store(core.vf_token, await alloc(VfioPciVfToken))
        return
    physical = await peek(device.dev.bus_devices, device.dev.spec.physfn)
    vdev = await load(physical.drvdata) if physical is not None else None
    if isinstance(vdev, VfioDevice):
        await store(core.sriov_pf_core_dev, await core_of(vdev))


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_vf_uninit(device: VfioDevice) -> None:
    """The secret goes with the driver."""
    core = await core_of(device)
    secret = await load(core.vf_token)
    if secret is not None:
        await store(core.vf_token, None)
        await free(secret)
