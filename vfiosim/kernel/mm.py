"""The user memory of a process: which addresses can be read and written, and what is there."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from ..engine import *
from ..uapi import Errno, KernelError
from .fs.file import File, fput
from .regions import PAGE_SIZE, PIECE, TASK_SIZE, Region, Sparse
from .unsupported import Unsupported

PROT_READ, PROT_WRITE = 1, 2
_PLACES_FROM: Final = 0x7F0000000000


class MmStruct(KObject):
    """An address space.

    * born with its process, empty; `fork` makes a copy of it;
    * regions come and go by mmap and munmap, and for the time of a call by the buffer that was passed to it;
    * in use while a process or a running call has it (`mm_users`); with the last of them the memory is gone;
    * dies when nobody points to it any more either (`mm_count`): memory mapped for devices does.

    Reads and writes raise OSError(EFAULT) at the first address that does not allow them.
    """

    kind = "mm_struct"
    root = "memory of a process"
    files: Table[Any] = table()  # mappings of files, by their address in hex: the file, held by this, and the length
    mm_users: Count = count()
    mm_count: Count = count()
    locked_vm: Field[int] = field(0, guard="mmap_lock")  # pages charged against RLIMIT_MEMLOCK (VmLck)
    pinned_vm: Field[int] = field(0)  # pages pinned for devices (VmPin)

    def __init__(self, engine: Engine, label: str) -> None:
        super().__init__(engine, label)
        self.outside: Any = None  # the object that has the bytes, if they are not here
        self._starts: list[int] = []
        self._regions: dict[int, Region] = {}
        self._place = _PLACES_FROM

    def map(
        self,
        length: int,
        data: bytes | bytearray | memoryview = b"",
        prot: int = 3,
        address: int | None = None,
        device: bool = False,
    ) -> int:
        """Make `length` bytes readable and writable as `prot` says (1 read, 2 write), beginning with `data`, the rest zero.

        A writable buffer of just that length is used itself, so that its owner sees what the kernel writes. Without an
        `address` a free one is chosen. Returns the address. Raises KernelError: EINVAL for a length below 1, ENOMEM beyond the
        end of user memory, EEXIST where something is mapped already.
        """
        if len(data) > length >= 1:
            raise ValueError(f"{len(data)} bytes do not fit into a mapping of {length}")
        if length < 1:
            raise KernelError(Errno.EINVAL, f"a mapping needs at least one byte, not {length}", check="mmap")
        address = self._place_for(length, address)
        if len(data) == length and not isinstance(data, bytes):
            self._add(Region(address, length, memoryview(data), prot, device))
            return address
        small = length <= PIECE
        store = memoryview(bytearray(length)) if small else Sparse()
        self._add(Region(address, length, store, PROT_WRITE, device))
        MmStruct.write(self, address, bytes(data))
        self._regions[address].prot = prot
        return address

    def map_pages(self, content: Sparse, length: int, prot: int, address: int | None) -> int:
        """Map memory of the kernel. Raises KernelError as `map`."""
        address = self._place_for(length, address)
        self._add(Region(address, length, content, prot, True, shared=True))
        return address

    def map_file(self, content: Sparse, offset: int, length: int, prot: int, shared: bool, address: int | None) -> int:
        """Map what is in a file; what is not shared goes its own way as soon as it is written. Raises KernelError as `map`."""
        address = self._place_for(length, address)
        data = content if shared else Sparse(under=content)
        self._add(Region(address, length, data, prot, offset=offset, shared=shared))
        return address

    def map_registers(self, file: Any, offset: int, length: int, prot: int, address: int | None) -> int:
        """Map registers of a device. Raises KernelError as `map`."""
        address = self._place_for(length, address)
        self._add(Region(address, length, Sparse(), prot, True, offset, True, file))
        return address

    def registers(self, address: int, size: int = 1) -> Region | None:
        """The registers of a device among these bytes, if there are any: the last ones."""
        index = bisect_right(self._starts, address + size - 1) - 1
        region = self._regions[self._starts[index]] if index >= 0 else None
        return region if region is not None and region.file is not None and region.end > address else None

    def _place_for(self, length: int, address: int | None) -> int:
        """Where a mapping goes: to a free place, or to the given one if that is free. Raises KernelError: ENOMEM, EEXIST."""
        if address is None:
            address = self._free_place(length)
            # a page that nobody may touch behind it
            self._place += (length + 2 * PAGE_SIZE - 1) // PAGE_SIZE * PAGE_SIZE
        if address < 0 or address + length > TASK_SIZE:
            raise KernelError(Errno.ENOMEM, f"user memory ends at {TASK_SIZE:#x}", check="mmap")
        if self._overlaps(address, length):
            raise KernelError(Errno.EEXIST, f"something is mapped at {address:#x} already", check="mmap")
        return address

    def map_buffer(self, buffer: object) -> int:
        """Let a running call see a Python buffer; what the kernel writes goes straight into it. Returns the address.

        Right behind it nothing is mapped. Raises TypeError unless it is writable bytes: a structure, a bytearray, an array.
        """
        try:
            view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        except TypeError:
            raise TypeError(f"a call takes a number or writable bytes, not {type(buffer).__name__}") from None
        if view.readonly:
            raise TypeError(
                f"a call takes writable bytes, and {type(buffer).__name__} cannot be written; use a bytearray"
            )
        address = self._free_place(len(view))
        self._place += (len(view) + 2 * PAGE_SIZE - 1) // PAGE_SIZE * PAGE_SIZE
        self._add(Region(address, len(view), view, 3))
        return address

    def forget(self, address: int) -> None:
        """The call is over: its buffer is no longer part of this address space."""
        region = self._regions.pop(address, None)
        if region is not None:
            self._starts.remove(address)
            self._place = min(self._place, address)

    def unmap(self, address: int, length: int) -> None:
        """Take away every mapping between `address` and `address + length`; what sticks out stays."""
        end = address + length
        for start in list(self._starts):
            region = self._regions[start]
            if start >= end or region.end <= address:
                continue
            self._starts.remove(start)
            del self._regions[start]
            for low, high in ((start, min(address, region.end)), (max(end, start), region.end)):
                if low < high:
                    self._add(region.part(low, high))

    def read(self, address: int, size: int) -> bytes:
        """The bytes at `address`. Raises OSError(EFAULT) if one of them cannot be read."""
        found = self._walk(address, size, PROT_READ)
        if sum(len(part) for part in found) < size:
            raise KernelError(Errno.EFAULT, f"{size} bytes at {address:#x} cannot all be read", check="fault")
        return found[0].tobytes() if len(found) == 1 else b"".join(found)

    def write(self, address: int, data: bytes) -> None:
        """Write `data` at `address`; raises OSError(EFAULT) where that is not allowed, with what lies before it written."""
        done = 0
        for part in self._walk(address, len(data), PROT_WRITE):
            part[:] = data[done : done + len(part)]
            done += len(part)
        if done < len(data):
            raise KernelError(Errno.EFAULT, f"{len(data)} bytes at {address:#x} cannot all be written", check="fault")

    def pinnable(self, address: int, size: int, write: bool) -> bool:
        """Can all pages of a range be pinned, to be read or also to be written? A page counts if part of it is mapped.

        What belongs to a device cannot be pinned.
        """
        end = address + size
        while address < end:
            index = bisect_right(self._starts, address | (PAGE_SIZE - 1)) - 1
            region = self._regions[self._starts[index]] if index >= 0 else None
            if region is None or region.end <= address or region.device:
                return False
            last = min(region.end, end) - 1
            if isinstance(region.data, Sparse) and region.data.room(region.offset + last - region.start) <= 0:
                return False
            if not region.prot & (PROT_WRITE if write else PROT_READ):
                return False
            address = -(-region.end // PAGE_SIZE) * PAGE_SIZE
        return True

    def unpinnable(self, address: int, size: int, write: bool) -> str:
        """Why not all pages of a range can be pinned."""
        for first, _ in self._devices(address, address + size):
            return f"at {first:#x} there are registers of a device; they are no memory, so they cannot be pinned"
        if not self._overlaps(address, size):
            return f"there is no memory at any of the {size} bytes from address {address:#x} on"
        if write and self.pinnable(address, size, False):
            return f"the {size} bytes at address {address:#x} can all be read, but not all be written"
        return f"at some of the {size} bytes from address {address:#x} on there is no memory that can be read"

    def unshare(self, address: int, size: int) -> None:
        """What is private there is so from now on, whether it was written or not."""
        end = address + size
        for start in self._starts[
            max(bisect_right(self._starts, address) - 1, 0) : bisect_right(self._starts, end - 1)
        ]:
            region = self._regions[start]
            if isinstance(region.data, Sparse) and region.data.under is not None:
                for place in range(max(start, address - address % PAGE_SIZE), min(end, region.end), PAGE_SIZE):
                    region.view(place, 1, True)

    def spans(self, address: int, size: int) -> Iterator[tuple[int, int, bool]]:
        """A range in parts: address, size, and whether it belongs to a device; what is not mapped counts as memory."""
        for first, last in self._devices(address, address + size):
            if address < first:
                yield address, first - address, False
            yield max(first, address), last - max(first, address), True
            size -= last - address
            address = last
        if size:
            yield address, size, False

    def _devices(self, first: int, end: int) -> list[tuple[int, int]]:
        """What of a range belongs to devices, upwards."""
        regions = (self._regions[start] for start in self._starts)
        parts = ((max(each.start, first), min(each.end, end)) for each in regions if each.device)
        return [(low, high) for low, high in parts if low < high]

    def page_at(self, address: int) -> tuple[object, int]:
        """Which page is at an address: two addresses may lead to one, of a file that is mapped twice."""
        index = bisect_right(self._starts, address) - 1
        region = self._regions[self._starts[index]] if index >= 0 else None
        if region is not None and isinstance(region.data, Sparse) and address < region.end:
            place = (region.offset + address - region.start) // PAGE_SIZE
            if region.shared:
                return region.data, place
            if region.data.under is not None and place not in region.data.pieces:
                return region.data.under, place
        return self, address // PAGE_SIZE

    def allows(self, address: int, write: bool) -> bool:
        """May what is mapped at an address be read, or also written?"""
        registers = self.registers(address)
        if registers is not None:
            return bool(registers.prot & (PROT_WRITE if write else PROT_READ | PROT_WRITE))
        return bool(self._walk(address, 1, PROT_WRITE if write else PROT_READ))

    def protect(self, address: int, length: int, prot: int) -> None:
        """Change what may be done in a range; what sticks out keeps its protection. EINVAL, ENOMEM where a part is not mapped."""
        if address % PAGE_SIZE:
            raise KernelError(Errno.EINVAL, f"{address:#x} is not where a page begins", check="mprotect")
        if length and prot & ~0xF:
            raise KernelError(Errno.EINVAL, f"{prot:#x} is no protection", check="mprotect")
        end = address + length
        inside = [self._regions[s] for s in self._starts if s < end and self._regions[s].end > address]
        covered = sum(min(region.end, end) - max(region.start, address) for region in inside)
        for region in inside:
            low, high = max(region.start, address), min(region.end, end)
            del self._regions[region.start]
            self._starts.remove(region.start)
            for first, last, now in (
                (region.start, low, region.prot),
                (low, high, prot),
                (high, region.end, region.prot),
            ):
                if first < last:
                    self._add(replace(region.part(first, last), prot=now))
        if covered < length:
            raise KernelError(Errno.ENOMEM, f"not all of {length} bytes at {address:#x} is mapped", check="mprotect")

    def copy(self, engine: Engine, label: str) -> MmStruct:
        """A copy for a forked process: same addresses, bytes of its own."""
        twin = MmStruct(engine, label)
        twin._starts, twin._place = list(self._starts), self._place
        twin._regions = {start: region.copy() for start, region in self._regions.items()}
        return twin

    def _free_place(self, length: int) -> int:
        """Where the next mapping goes."""
        return self._place

    def _walk(self, address: int, size: int, need: int) -> list[memoryview]:
        parts: list[memoryview] = []
        while size > 0:
            index = bisect_right(self._starts, address) - 1
            if index < 0:
                break
            region = self._regions[self._starts[index]]
            if region.file is not None and address < region.end:
                raise Unsupported("what reaches registers of a device, but no instruction of a program,")
            part = region.view(address, size, bool(need & PROT_WRITE))
            if not part or not region.prot & (need | PROT_WRITE):  # what can be written can be read
                break
            parts.append(part)
            address += len(part)
            size -= len(part)
        return parts

    def _add(self, region: Region) -> None:
        self._regions[region.start] = region
        insort(self._starts, region.start)

    def _overlaps(self, address: int, length: int) -> bool:
        index = bisect_right(self._starts, address + length - 1) - 1
        return index >= 0 and self._regions[self._starts[index]].end > address


def too_much_locked(who: str, limit: int, now: int, more: int) -> str:
    """What is told where pages cannot be locked; all three are numbers of pages."""
    limit, now, more = [pages * PAGE_SIZE >> 10 for pages in (limit, now, more)]
    used = f"{now} KiB are locked already, for devices and other software," if now else "none is locked yet,"
    return f"RLIMIT_MEMLOCK lets {who} lock {limit} KiB of memory; {used} and {more} KiB more were asked for"


def mapped_at(address: str) -> str:
    """Why an address space holds a file."""
    return f"mapped at {address}"


@kernel("include/linux/sched/mm.h")
async def mmgrab(mm: MmStruct, holder: KObject, reason: str) -> None:
    """Point to an address space, without keeping its memory."""
    await get(mm.mm_count, holder, reason)


@kernel("include/linux/sched/mm.h")
async def mmdrop(mm: MmStruct, holder: KObject, reason: str) -> None:
    """Point to an address space no more."""
    if await put(mm.mm_count, holder, reason):
        await free(mm)


@kernel("mm/mmap.c")
async def exit_mmap(mm: MmStruct) -> None:
    """All memory goes, and with it the hold of mappings on their files."""
    for slot in await slots_of(mm.files):
        entry = await xa_store(mm.files, slot, None)
        if entry is not None:
            await vma_close(entry, mm, slot)


Entry = tuple[File, int, Any]  # a mapping of a file: its length, and whose memory of the kernel it shows


async def vma_open(entry: Entry, mm: MmStruct, slot: str) -> None:
    """A mapping holds its file, and what it shows."""
    await get(entry[0].f_ref, mm, mapped_at(slot))
    if entry[2] is not None:
        await get(entry[2].users, mm, mapped_at(slot))
    await xa_store(mm.files, slot, entry)


async def vma_close(entry: Entry, mm: MmStruct, slot: str) -> None:
    """And no more."""
    if entry[2] is not None:
        await put(entry[2].users, mm, mapped_at(slot))
    await fput(entry[0], mm, mapped_at(slot))


@kernel("kernel/fork.c")
async def mmput(mm: MmStruct, holder: KObject, reason: str) -> None:
    """Stop using an address space; with the last user its memory is gone."""
    if await put(mm.mm_users, holder, reason):
        await exit_mmap(mm)
        await mmdrop(mm, mm, "in use")
