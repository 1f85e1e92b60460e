"""What is mapped into an I/O address space: areas, and the memory behind them (drivers/iommu/iommufd/io_pagetable.h, v7.2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ...engine import *
from ..dma_buf import dma_buf_fops
from ..regions import PAGE_SIZE

if TYPE_CHECKING:
    from ..fs.file import File
    from ..mm import MmStruct
    from ..task import TaskStruct, UserStruct
    from .iommufd_private import IommufdHwptPaging, IommufdIoas


IOMMU_READ: Final = 1
IOMMU_WRITE: Final = 2
ULONG_MAX: Final = 2**64 - 1
# How pinned memory is charged. The limit is RLIMIT_MEMLOCK of the process that made the mapping.
ACCOUNT_NONE: Final = "without limit"  # the process may lock as much as it likes (CAP_IPC_LOCK)
ACCOUNT_USER: Final = "to the user"
ACCOUNT_MM: Final = "to the address space"
HAS_PAGES: Final = "its memory"


class IoptPages(KObject):
    """A piece of user memory that is mapped for devices, or part of a file.

    * born by a MAP call; belongs to the process that made it, whoever holds the iommufd;
    * held by each area that shows a part of it (`kref`): one at first, more by COPY and by splitting;
    * pinned as long as an area of it is in a page table (`npinned` pages); an area alone pins nothing;
    * holds the mm_struct, the process and the file, but does not keep the address space in use.
    """

    kind = "iopt_pages"
    kref: Count = count()
    mutex: Lock = mutex()
    # guarded by mutex
    npinned: Field[int] = field(0, guard="mutex")
    last_npinned: Field[int] = field(0, guard="mutex")  # as far as it has been charged
    domains_itree: Field[tuple[IoptArea, ...]] = field((), guard="mutex", link="weak")  # areas that are in page tables
    access_itree: Field[tuple[tuple[int, int], ...]] = field(
        (), guard="mutex"
    )  # first and last page, pinned for software
    dmabuf_revoked: Field[bool] = field(False, guard="mutex")  # its driver has taken it away: it leads nowhere
    # guarded by iova_rwsem of every IOAS of the context
    source_mm: Field[MmStruct] = field(None, guard="iova_rwsem")  # type: ignore[arg-type]
    source_task: Field[TaskStruct] = field(None, guard="iova_rwsem")  # type: ignore[arg-type]
    source_user: Field[UserStruct] = field(None, guard="iova_rwsem")  # type: ignore[arg-type]

    def __init__(
        self,
        engine: Engine,
        address: int,
        npages: int,
        writable: bool,
        account_mode: str,
        file: File | None,
    ) -> None:
        super().__init__(engine)
        self.address = address  # of the first page: in the process (`uptr`), or in the file (`start`)
        self.npages = npages
        self.writable = writable
        self.account_mode = account_mode
        self.file = file
        self.is_dmabuf = file is not None and file.f_op is dma_buf_fops


class IoptArea(KObject):
    """A range of I/O addresses and what it leads to.

    * born with a place in the address space, but without `pages`: nobody may use it yet, UNMAP of it says EBUSY;
    * published when its `pages` are set, by then every page table of the address space has it;
    * `storage_domain`: the page table that remembers where the pinned pages are; None while nothing is pinned for it;
    * dies by UNMAP, or with the address space.
    """

    kind = "iopt_area"
    pages: Field[IoptPages | None] = field(None, guard="iova_rwsem")
    storage_domain: Field[IommufdHwptPaging | None] = field(None, guard="pages.mutex", link="weak")
    num_accesses: Field[int] = field(0, guard="pages.mutex")  # pinned for software; UNMAP must ask for it first
    num_locks: Field[int] = field(0, guard="pages.mutex")  # of these by hardware queues: UNMAP is refused
    prevent_access: Field[bool] = field(False, guard="iova_rwsem")

    def __init__(
        self, engine: Engine, iopt: IommufdIoas, iova: int, length: int, start_byte: int, iommu_prot: int
    ) -> None:
        super().__init__(engine)
        self.iopt = iopt
        self.iova = iova
        self.last = iova + length - 1
        self.start_byte = start_byte  # in its pages, from the beginning of the first one
        self.iommu_prot = iommu_prot

    @property
    def length(self) -> int:
        """In bytes."""
        return self.last - self.iova + 1

    @property
    def page_offset(self) -> int:
        """Where in its first page it begins."""
        return self.start_byte % PAGE_SIZE

    @property
    def indexes(self) -> tuple[int, int]:
        """Its first and last page, counted within its pages."""
        return self.start_byte // PAGE_SIZE, (self.start_byte + self.length - 1) // PAGE_SIZE

    def has_whole_page(self, iova: int) -> bool:
        """Is the page around an address one page of memory, and all of it in the area?"""
        first = iova - iova % PAGE_SIZE
        return self.iova <= first and first + PAGE_SIZE - 1 <= self.last and self.byte_at(first) % PAGE_SIZE == 0

    def byte_at(self, iova: int) -> int:
        """Where in its pages an I/O address leads to."""
        return self.start_byte + iova - self.iova


Range = tuple[int, int]  # first and last address


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same addresses as ranges in ascending order that neither overlap nor touch."""
    result: list[Range] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


def holes(used: list[Range], first: int, last: int) -> list[Range]:
    """What merged ranges leave free between two addresses, both included."""
    free: list[Range] = []
    for low, high in used:
        if high < first:
            continue
        if low > last:
            break
        if low > first:
            free.append((first, low - 1))
        first = high + 1
    return [*free, (first, last)] if first <= last else free
