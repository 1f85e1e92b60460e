"""The twelve levels, from what a BIND needs to a card that is given back while a mapping lives."""

from __future__ import annotations

from .levels import Level

_MEMORY = "memory, open card, open iommufd, BIND, IOAS_ALLOC, MAP, ATTACH"
_VM = "create VM, create list"
_BOUND = "open card, open iommufd, BIND"
_ALL = "memory, create VM, create list, open card, open gpu, open iommufd, FILE_ADD, BIND, BIND gpu"

LEVELS = (
    Level(
        "two files",
        "Nothing is open yet. Open what a BIND needs, and nothing else.",
        start="",
        goal="a descriptor leads to file vfio0*, a descriptor leads to file iommu*, no descriptor leads to file group*",
        moves="open group, open card, open iommufd, close group",
        hints="A BIND is a call on one file, and names another one. / The card's node, and /dev/iommu.",
        explained="BIND is a call on the card's file, and names an iommufd in its struct. The group has no part in it.",
        wrong={"a descriptor leads to file group*": "That is the old way to a card: no BIND asks for it."},
    ),
    Level(
        "the old door",
        "The group of the card is open: an older program began like that. Bind the card through its own node.",
        start="open group",
        goal="access_granted of vfio_device_file * is 1",
        moves="close group, open card, open iommufd, BIND, close card",
        hints="Press open card, open iommufd and BIND: read the errno. / Which file stands in the way? / close group before BIND.",
        explained="An open group and a bound node exclude each other. BIND looks when it is called, not before.",
        wrong={
            "file group1#1 is alive": "The group is open. As long as it is, BIND is refused: one way shuts the other."
        },
    ),
    Level(
        "no way back",
        "Bind the card, and keep no descriptor of the iommufd: nobody is to map anything in it.",
        start="",
        goal="access_granted of vfio_device_file * is 1, no descriptor leads to file iommu*",
        moves="open card, open iommufd, BIND, close card, close iommufd",
        hints="What does a binding hold? / First BIND, then close.",
        explained="BIND needs the descriptor only while it runs. Then the binding itself holds the iommufd's file.",
        wrong={
            "access_granted of vfio_device_file * is 0": "The card is not bound: BIND needs an open descriptor.",
            "access_granted of vfio_device_file * is 1": "It is bound. The binding holds the iommufd; no descriptor has to.",
            "file vfio0* is gone": "A binding lives as long as the card's file, so that file has to be open.",
        },
    ),
    Level(
        "twice the same",
        "The card is bound; somebody has called dup. Free the card, and keep the iommufd.",
        start=f"{_BOUND}, dup card",
        goal="open_count of vfio_device vfio0 is 0, a descriptor leads to file iommu*",
        moves="close card, close iommufd, dup card, BIND",
        hints="Two descriptors, one file: look at f_ref. / close twice.",
        explained="A binding ends with the card's file, and the file with its last holder. Each descriptor is one.",
        wrong={
            "no descriptor leads to file iommu*": "You closed the iommufd. It does not hold the card: the card's file has "
            "another descriptor.",
            "file vfio0#1 is alive": "Its other descriptor holds the file, and so the binding.",
        },
    ),
    Level(
        "the helper",
        "The program has forked a helper. Free card and iommufd, while the program lives on.",
        start=f"{_BOUND}, fork helper",
        goal="open_count of vfio_device vfio0 is 0, iommufd_ctx 1 is gone",
        moves="close card, close iommufd, dup card, kill helper",
        hints="Whose descriptors are there? / A child has its own table, with the same files. / Both closes, and kill helper.",
        explained="fork copies the table, so each file has one holder more. The end of the helper gives them back.",
        wrong={"fds helper is alive": "The helper has both files open, too."},
    ),
    Level(
        "one owner",
        "The gpu, vfio1, is bound to an iommufd that nobody has open any more. Bind it together with its audio function, vfio2.",
        start="open iommufd, open gpu, BIND gpu, close iommufd, open iommufd, open audio",
        goal="owner_cnt of iommu_group 2 is 2",
        moves="close gpu, close audio, open gpu, BIND gpu, BIND audio",
        hints="Press BIND audio: why not? / Who keeps the old iommufd alive? / Close the gpu, and begin again.",
        explained="One group, one owner of its DMA. No descriptor names the old one: the gpu's binding has to end first.",
        wrong={"owner of iommu_group 2 is iommufd_ctx 1": "The old iommufd owns the group: the gpu is bound."},
    ),
    Level(
        "too early",
        "The card was bound before its file was on the VM's list. Let the card hold the VM.",
        start=f"{_VM}, {_BOUND}",
        goal="vfio_device vfio0 holds kvm 1",
        moves="FILE_ADD, FILE_DEL, close card, open card, BIND",
        hints="FILE_ADD alone changes nothing for the card. / When does the card ask for a VM? / Bind it anew, after FILE_ADD.",
        explained="BIND asks once whether its file belongs to a VM. So the binding has to end, and a new one begin.",
        wrong={
            "access_granted of vfio_device_file 1 is 1": "The card is bound as before. It asks for its VM in BIND only, so this "
            "binding has to end."
        },
    ),
    Level(
        "alone with the card",
        "Let the VM live without any descriptor of it, and without its list: only the card keeps it.",
        start=f"{_VM}, open card, open iommufd",
        goal="kvm 1 is alive, no descriptor leads to file kvm*",
        moves="FILE_ADD, FILE_DEL, BIND, close VM, close list, close card",
        hints="Who can hold a VM? / The card does, if BIND finds its file on the list. / FILE_ADD, BIND, then both closes.",
        explained="At BIND the card takes a reference to the VM. That one stays when the descriptors and the list are gone.",
        wrong={"kvm 1 is gone": "The VM went with its last descriptor: nobody else held it."},
    ),
    Level(
        "four pages",
        "Card and iommufd are open, and the guest has 16 KiB of memory. Get its 4 pages pinned for the card.",
        start="memory, open card, open iommufd",
        goal="npinned of iopt_pages * is 4",
        moves="BIND, IOAS_ALLOC, MAP, ATTACH, DETACH, UNMAP",
        hints="MAP only notes. / Pages are pinned for a page table: who brings one? / BIND, IOAS_ALLOC, MAP, ATTACH.",
        explained="An address space notes what is mapped. A device that attaches brings a page table: then pages are pinned.",
        wrong={
            "npinned of iopt_pages * is 0": "The memory is mapped, and no page is pinned: pages are pinned for a "
            "page table only."
        },
    ),
    Level(
        "moving house",
        "The card reads by address space 2. Give it another one with the same memory, and end the old one.",
        start=_MEMORY,
        goal="npinned of iopt_pages * is 4, iommufd_ioas 2 is gone",
        moves="DETACH, UNMAP, IOAS_ALLOC, MAP, ATTACH, DESTROY oldest, DESTROY newest",
        hints="Is DETACH needed? / A second ATTACH moves the card. / IOAS_ALLOC, MAP, ATTACH, DESTROY oldest.",
        explained="ATTACH moves the card from table to table. The old one has no user left, so DESTROY is not refused.",
        wrong={
            "iopt_pages * is gone": "The old address space went, and the memory was mapped nowhere else.",
            "npinned of iopt_pages * is 0": "The card reads no memory now. ATTACH alone moves it: no DETACH is needed.",
        },
    ),
    Level(
        "for the next card",
        "The card's last descriptor is closed, and the card is not free. Free it; the VM keeps a list for the next card.",
        start=f"{_VM}, open card, open iommufd, FILE_ADD, BIND, close card",
        goal="open_count of vfio_device vfio0 is 0, a descriptor leads to file kvm-vfio*",
        moves="open card, FILE_DEL, close list, create list, close VM, close iommufd",
        hints="Who holds the card's file? / FILE_DEL finds a file by its descriptor. / End the list, make another.",
        explained="The list holds each file on it. It ends with its own file, and lets go of all of them.",
        wrong={"no descriptor leads to file kvm-vfio*": "The VM has no list for the next card."},
        once="the list remembers",  # a name that told the answer
    ),
    Level(
        "while a mapping lives",
        "Card (vfio0) and gpu (vfio1; vfio2 is its audio function) read the guest's memory. The card's registers are mapped, "
        "its file has two descriptors. Free the card alone.",
        start=f"{_ALL}, IOAS_ALLOC, MAP, ATTACH, ATTACH gpu, mmap, dup card",
        goal="open_count of vfio_device vfio0 is 0, npinned of iopt_pages * is 4, open_count of vfio_device vfio1 is 1",
        moves="FILE_DEL, DETACH, UNMAP, DESTROY, munmap, close card, close iommufd",
        hints="Who holds the card's file? / The list, two descriptors, a mapping. / FILE_DEL, close twice, munmap.",
        explained="A mapping of registers holds the file as a descriptor does. The memory is the gpu's as well: no UNMAP.",
        wrong={"iopt_pages * is gone": "The memory was unmapped for the gpu, too: both read by one address space."},
    ),
)
