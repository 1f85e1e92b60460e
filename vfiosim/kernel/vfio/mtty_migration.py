"""How the state of a mediated serial port is saved and loaded through a file (samples/vfio-mdev/mtty.c, v7.2)."""

from __future__ import annotations

import struct
from ctypes import sizeof
from typing import Final

from ... import uapi
from ...engine import *
from ...uapi import Errno, VfioPrecopyInfo
from ..fs.eventfd import EventfdCtx
from ..fs.file import O_RDONLY, O_WRONLY, File, FileOperations, fput, private
from ..fs.syscalls import alloc_file
from ..unsupported import Unsupported
from .vfio import VfioDevice, VfioMigrationOps
from .vfio_main import vfio_mig_get_next_state

NO_IRQ: Final = uapi.VFIO_PCI_NUM_IRQS
FIFO: Final = 16
STOP, RUNNING, STOP_COPY = uapi.VFIO_DEVICE_STATE_STOP, uapi.VFIO_DEVICE_STATE_RUNNING, uapi.VFIO_DEVICE_STATE_STOP_COPY
RESUMING, PRE_COPY = uapi.VFIO_DEVICE_STATE_RESUMING, uapi.VFIO_DEVICE_STATE_PRE_COPY
PRE_COPY_P2P: Final = uapi.VFIO_DEVICE_STATE_PRE_COPY_P2P
HEADER: Final = struct.Struct("<QIIII")  # of `struct mtty_data`: a magic number, two of the version, ports, flags
MAGIC: Final = 0x7E9D09898C3E2C4E
# `struct serial_port`: eight registers, the buffer of what is on its way, and what is known about both
SERIAL_PORT: Final = struct.Struct(f"<8B{FIFO}s5BxH3Bx")
REGISTERS: Final = ("reg0", "IER", "reg2", "LCR", "MCR", "reg5", "reg6", "SCR")
BEHIND: Final = ("head", "tail", "count", "dlab", "overrun", "divisor", "fcr", "less", "level")
SAVES, LOADS = "saves into it", "loads from it"


class MttyMigrationFile(KObject):
    """What is saved of a device, or loaded into it (`struct mtty_migration_file`).

    * lives as long as its file, which the program has and, while it is in the state of that file, the device;
    * `disabled`: the device has left that state, so nothing can be read or written any more.
    """

    kind = "mtty_migration_file"
    lock: Lock = mutex()
    data: Field[bytes] = field(b"", guard="lock")  # as much as is filled
    disabled: Field[bool] = field(False, guard="lock")

    def __init__(self, engine: Engine, state: MdevState, file: File) -> None:
        super().__init__(engine, state.label)
        self.mdev_state = state
        self.filp = file


class MdevState(KObject):
    """The part of a vfio_device that mtty adds.

    * lives exactly as long as its vfio_device, and what programs have told it, too: a close or a reset forgets nothing of that;
    * `num_irqs`: how many kinds of interrupts it admits to: none until somebody has asked for GET_INFO, then for good;
    * `state`: where its migration stands; it holds the file that its state is read from or written to, until it leaves that state;
    * while it is open it holds the eventfd of the one kind of interrupt that is enabled, `irq_index`.
    """

    kind = "mdev_state"
    num_irqs: Field[int] = field(0)
    ops_lock: Lock = mutex()
    rxtx_lock: Lock = mutex()
    # guarded by ops_lock
    vconfig: Table[int] = table(guard="ops_lock")  # bytes of configuration space that were written
    ports: Table[int] = table(guard="ops_lock")  # of its serial ports, as "0.IER"; where there is none it is 0
    fifo: Table[bytes] = table(guard="rxtx_lock")  # what was sent over a port comes back: 16 bytes
    irq_index: Field[int] = field(NO_IRQ, guard="ops_lock")
    evtfd: Field[EventfdCtx | None] = field(None, guard="ops_lock")
    intx_mask: Field[bool] = field(False, guard="ops_lock")
    state_mutex: Lock = mutex()
    state: Field[int] = field(RUNNING, guard="state_mutex")
    saving_migf: Field[MttyMigrationFile | None] = field(None, link="weak")
    resuming_migf: Field[MttyMigrationFile | None] = field(None, link="weak")
    reset_mutex: Lock = mutex()
    deferred_reset: Field[bool] = field(False, guard="reset_mutex")

    def __init__(self, engine: Engine, vdev: VfioDevice) -> None:
        super().__init__(engine, vdev.label)
        self.vdev = vdev


def ports_of(kind: str) -> int:
    """How many serial ports a device of a type has."""
    return 1 if kind == "mtty-1" else 2


async def state_of(device: VfioDevice) -> MdevState:
    """The part of mtty of a device (`container_of`)."""
    state = await load(device.driver_data)
    assert isinstance(state, MdevState)
    return state


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_data_size(device: VfioDevice) -> int:
    """A header, and what each port is made of."""
    return HEADER.size + ports_of(device.dev.spec.model) * SERIAL_PORT.size


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_disable_file(migf: MttyMigrationFile) -> None:
    """Nothing can be read or written any more."""
    async with migf.lock:
        await store(migf.disabled, True)
        await store(migf.data, b"")
        await store(migf.filp.f_pos, 0)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_disable_files(state: MdevState) -> None:
    """The device lets go of the file of the state that it leaves."""
    kept: Field[MttyMigrationFile | None]
    for kept, reason in ((state.saving_migf, SAVES), (state.resuming_migf, LOADS)):
        migf = await load(kept)
        if migf is not None:
            await mtty_disable_file(migf)
            await store(kept, None)
            await fput(migf.filp, state, reason)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_state_mutex_unlock(state: MdevState) -> None:
    """Let others change the state; before that do the reset that has been asked for meanwhile."""
    await acquire(state.reset_mutex)
    while await load(state.deferred_reset):
        await store(state.deferred_reset, False)
        await release(state.reset_mutex)
        await store(state.state, RUNNING)
        await mtty_disable_files(state)
        await acquire(state.reset_mutex)
    await release(state.state_mutex)
    await release(state.reset_mutex)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_release_migf(file: File) -> None:
    """What was saved goes with its file."""
    migf: MttyMigrationFile = await private(file)
    await mtty_disable_file(migf)
    await free(migf)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_precopy_ioctl(file: File, cmd: int, argument: int) -> int:
    """VFIO_MIG_GET_PRECOPY_INFO, and nothing else (ENOTTY): EFAULT, EINVAL (argsz, not in such a state), ENODEV."""
    await refuse_if(cmd != uapi.VFIO_MIG_GET_PRECOPY_INFO, Errno.ENOTTY, "file_knows_request", "there is one request")
    migf: MttyMigrationFile = await private(file)
    state, size = migf.mdev_state, sizeof(VfioPrecopyInfo)
    info = VfioPrecopyInfo.from_buffer_copy(await copy_from_user(argument, size))
    await refuse_if(info.argsz < size, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {size}")
    if await load(state.vdev.precopy_info_v2):
        info.flags = 0
    await acquire(state.state_mutex)
    async with cleanup(mtty_state_mutex_unlock, state):
        other = await load(state.state) not in (PRE_COPY, PRE_COPY_P2P)
        await refuse_if(other, Errno.EINVAL, "device_in_precopy", "the device is not saved while it runs")
        async with migf.lock:
            await refuse_if(await load(migf.disabled), Errno.ENODEV, "file_in_use", "the device has left that state")
            saved = await load(migf.data)
            info.dirty_bytes, info.initial_bytes = 0, len(saved) - await load(file.f_pos)
        await copy_to_user(argument, bytes(info))
    return 0


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_save_read(file: File, size: int, offset: int) -> bytes:
    """What was saved, from where the file stands. ENODEV once the device has left that state."""
    migf: MttyMigrationFile = await private(file)
    async with migf.lock:
        await refuse_if(await load(migf.disabled), Errno.ENODEV, "file_in_use", "the device has left that state")
        at = await load(file.f_pos)
        found = (await load(migf.data))[at : at + size]
        await store(file.f_pos, at + len(found))
    return found


mtty_save_fops = FileOperations(
    "mtty_mig", release=mtty_release_migf, unlocked_ioctl=mtty_precopy_ioctl, read=mtty_save_read, stream=True
)


async def ports_as_bytes(state: MdevState) -> bytes:
    """Its serial ports as they lie in memory."""
    data = b""
    for number in range(ports_of(state.vdev.dev.spec.model)):
        which = f"{number}."
        known = [await xa_load(state.ports, which + name) or 0 for name in (*REGISTERS, *BEHIND)]
        known[-2] = FIFO - known[-2]
        data += SERIAL_PORT.pack(*known[:8], await xa_load(state.fifo, which) or bytes(FIFO), *known[8:])
    return data


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_save_state(state: MdevState, migf: MttyMigrationFile) -> None:
    """The ports, behind what has been saved already."""
    async with migf.lock:
        await store(migf.data, await load(migf.data) + await ports_as_bytes(state))


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_load_state(state: MdevState, migf: MttyMigrationFile) -> None:
    """The ports become what was written into the file. EINVAL if not all was."""
    async with migf.lock:
        data = await load(migf.data)
        size = await mtty_data_size(state.vdev)
        await refuse_if(len(data) < size, Errno.EINVAL, "state_is_whole", f"{len(data)} of {size} bytes were written")
        for number, at in enumerate(range(HEADER.size, size, SERIAL_PORT.size)):
            found = SERIAL_PORT.unpack_from(data, at)
            known = dict(zip((*REGISTERS, *BEHIND), (*found[:8], *found[9:]), strict=True))
            if max(known["head"], known["tail"]) >= FIFO:
                raise Unsupported("a port of mtty whose buffer is left, with what lies behind it in memory")
            known["less"] = FIFO - known["less"]
            for name, value in known.items():
                await xa_store(state.ports, f"{number}.{name}", value)
            await xa_store(state.fifo, f"{number}.", found[8])


async def migration_file(state: MdevState, f_op: FileOperations, flags: int, reason: str) -> MttyMigrationFile:
    """A file for the program, which the device holds too."""
    file = await alloc_file("mtty_mig", f_op, flags)
    migf = await alloc(MttyMigrationFile, state, file)
    await store(file.private_data, migf)
    await get(file.f_ref, state, reason)
    return migf


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_save_device_data(state: MdevState, new: int) -> File | None:
    """A file with what there is to save, unless the program has one already; the ports only once the device stands still."""
    known = await load(state.saving_migf)
    migf = known or await migration_file(state, mtty_save_fops, O_RDONLY, SAVES)
    if known is None:
        await store(migf.data, HEADER.pack(MAGIC, 1, 0, ports_of(state.vdev.dev.spec.model), 0))
        await store(state.saving_migf, migf)
    if new == STOP_COPY:
        await mtty_save_state(state, migf)
    return None if known else migf.filp


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_resume_write(file: File, data: bytes, offset: int) -> int:
    """What is to be loaded: ENOMEM (more than a state has), ENODEV, EFAULT for a header of something else, which is kept."""
    migf: MttyMigrationFile = await private(file)
    device = migf.mdev_state.vdev
    at = await load(file.f_pos)
    most = await mtty_data_size(device)
    why = f"the state of such a device has {most} bytes, and this makes {at + len(data)}"
    await refuse_if(at + len(data) > most, Errno.ENOMEM, "state_fits", why)
    async with migf.lock:
        await refuse_if(await load(migf.disabled), Errno.ENODEV, "file_in_use", "the device has left that state")
        before = await load(migf.data)
        await store(migf.data, before + data)
        await store(file.f_pos, at + len(data))
        if len(before) < HEADER.size <= len(before + data):
            good = HEADER.pack(MAGIC, 1, 0, ports_of(device.dev.spec.model), 0)
            other = not (before + data).startswith(good)
            await refuse_if(other, Errno.EFAULT, "header_is_mtty", "this is no state of such a device")
    return len(data)


mtty_resume_fops = FileOperations("mtty_mig", release=mtty_release_migf, write=mtty_resume_write, stream=True)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_resume_device_data(state: MdevState) -> File:
    """A file for what is to be loaded."""
    migf = await migration_file(state, mtty_resume_fops, O_WRONLY, LOADS)
    await store(state.resuming_migf, migf)
    return migf.filp


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_step_state(state: MdevState, new: int) -> File | None:
    """One step to another state; most need nothing, for mtty moves nothing by itself. The answer is a file for the program."""
    cur = await load(state.state)
    if cur == RESUMING:
        migf = await load(state.resuming_migf)
        if migf is None:  # the last close took it, and the state stayed
            raise KernelOops(f"{state.label} is to be loaded from a file that it has not any more (a null pointer)")
        await mtty_load_state(state, migf)
    if new == RESUMING:
        return await mtty_resume_device_data(state)
    if new == STOP_COPY or (new in (PRE_COPY, PRE_COPY_P2P) and cur not in (PRE_COPY, PRE_COPY_P2P)):
        return await mtty_save_device_data(state, new)
    if new not in (PRE_COPY, PRE_COPY_P2P) and cur in (RESUMING, STOP_COPY, PRE_COPY, PRE_COPY_P2P):
        await mtty_disable_files(state)
    return None


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_set_state(device: VfioDevice, new: int) -> File | None:
    """Step by step to another state; the answer is a file if the last step made one. EINVAL, what a step says."""
    state, file = await state_of(device), None
    await acquire(state.state_mutex)
    async with cleanup(mtty_state_mutex_unlock, state):
        while await load(state.state) != new:
            step = await vfio_mig_get_next_state(device, await load(state.state), new)
            file = await mtty_step_state(state, step)
            await store(state.state, step)
    return file


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_get_state(device: VfioDevice) -> int:
    """In which state the device is."""
    state = await state_of(device)
    await acquire(state.state_mutex)
    current_state = await load(state.state)
    await mtty_state_mutex_unlock(state)
    return current_state


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_get_data_size(device: VfioDevice) -> int:
    """How much there is to save of a device that stands still."""
    return await mtty_data_size(device)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_reset(state: MdevState) -> int:
    """VFIO_DEVICE_RESET: the device runs; where its state is being changed, whoever does that sees to it. Ports stay."""
    async with state.reset_mutex:
        await store(state.deferred_reset, True)
        if not await try_acquire(state.state_mutex):
            return 0
    await mtty_state_mutex_unlock(state)
    return 0


mtty_migration_ops = VfioMigrationOps(mtty_set_state, mtty_get_state, mtty_get_data_size)
