"""What people believe about VFIO and iommufd, and what is the case. Wrong answers refer to these by name."""

from __future__ import annotations

from ..lab.question import Misconception


def _threads(*names: str) -> tuple[str, ...]:
    """Addresses of public threads, each given as owner/repository#number."""
    return tuple("https://github.com/{}/issues/{}".format(*name.split("#")) for name in names)


OWN_DRIVER_IS_ENOUGH = Misconception(
    "My device has a VFIO driver, so it can be used",
    "The whole group counts: every device in it must be on a VFIO driver or on none.",
    _threads("kubevirt/kubevirt#6718", "lxc/incus#3422"),
)
NO_GROUPS_ANY_MORE = Misconception(
    "With device nodes there are no groups any more",
    "The node replaces the group's file, not the group: all its devices still have one owner of their DMA.",
    _threads("ROCm/k8s-gpu-dra-driver#93", "kata-containers/kata-containers#12393"),
)
SHOWN_IS_THERE = Misconception(
    "/sys shows vfio-dev/vfio0, so the device has a node",
    "Every VFIO device has that folder. The node, and the file dev in that folder, need a kernel with VFIO_DEVICE_CDEV.",
    _threads("kubevirt/kubevirt#18905", "ydb-platform/nbs#6067"),
)
BOTH_WAYS_AT_ONCE = Misconception(
    "A device can be reached by its group's file and by its own file at the same time",
    "The group's file and the device's own file exclude each other. While one is in use, the other is busy.",
)
ALL_CHECKS_AT_ONCE = Misconception(
    "A call checks everything, then says what is wrong",
    "Checks have an order, and the first that fails ends the call. One errno can come from many of them.",
)
ERRNO_IS_A_CAUSE = Misconception(
    "An errno names its cause",
    "Many checks share one errno. Which of them refused is told by what comes before it, and by what comes after it.",
)
OPEN_IS_ENOUGH = Misconception(
    "Opening the file opens the device",
    "Opening the node gives a file with a shut gate. BIND opens the device.",
    _threads("microsoft/openvmm#3465"),
)
SECOND_OPEN_IS_FINE = Misconception(
    "A second open is as good as a dup",
    "A dup is another number for the same file. A second open is another file, and only one file of a device can be bound.",
)
LOOKING_IS_HOLDING = Misconception(
    "A pointer to an object keeps it alive",
    "Only a counted reference keeps. A weak pointer knows where the object is, and must be cleared before it goes.",
)
ONE_NUMBER_ONE_HOLDER = Misconception(
    "A file lives as long as its descriptor",
    "A descriptor is one holder of several. Whoever else has a reference holds the file, too: a program, or the kernel itself.",
    _threads("spdk/spdk#2811", "kata-containers/runtime#1669"),
)
CLOSING_IS_RELEASING = Misconception(
    "Close the iommufd, and the device is released",
    "There is no unbind. A binding ends with the device's file, and until then it holds the iommufd.",
    _threads("SamsungDS/libvfn#18", "rust-vmm/vfio#153"),
)
LAST_IN_FIRST_OUT = Misconception(
    "Things are freed in the order in which I close them",
    "Each thing is freed when its last holder gives it back. Your order of closing does not decide that.",
    _threads("cloud-hypervisor/cloud-hypervisor#1867", "rust-vmm/vfio#107"),
)
ONE_CALL_AFTER_THE_OTHER = Misconception(
    "Two calls behave as if one ran after the other",
    "Each call runs in small steps, and the other can step in between. Locks decide which outcomes are left.",
)
VM_FOLLOWS_THE_LIST = Misconception(
    "Whenever the file comes on a VM's list, the device belongs to that VM",
    "The list tells the file. The device asks its file once, inside of BIND, and keeps what it found.",
)
FAILED_IS_UNDONE = Misconception(
    "A call that fails has changed nothing",
    "A way out puts back what its call has taken. Where it puts back too little, or too much, a failure changes something.",
)
ANY_ORDER_WILL_DO = Misconception(
    "If all of it is given back, the order does not matter",
    "Others run while a call is on its way out. What it still has to give back must still be guarded.",
)
EACH_ACCESS_LOCKED = Misconception(
    "Data are safe when every access to them is under the lock",
    "What was seen is true only as long as the lock is held. So the lock is held from the look until the change.",
)
LOCKED_IS_BUSY = Misconception(
    "If a lock is held, the other call fails",
    "It waits, and goes on when the lock is free. EBUSY comes from a check.",
)
UNBINDING_CUTS = Misconception(
    "Taking the driver away takes the device away at once",
    "The driver waits until the last file of the device is released, however long that takes.",
    _threads("spdk/spdk#2811", "kata-containers/runtime#1669"),
)
BOUND_BY_A_PROGRAM = Misconception(
    "What a program has bound ends with the program",
    "A binding belongs to a file. Each program with a descriptor of the file holds the binding, too.",
    _threads("kata-containers/kata-containers#13548"),
)
VFIO0_IS_MY_CARD = Misconception(
    "/dev/vfio/devices/vfio0 is always the same card",
    "A device gets the lowest number that is free when its driver takes it. Which card has it is told by the address under /sys.",
)
NUMBERS_STAY = Misconception(
    "A number leads to my file until I forget the number",
    "close gives the number back, and the next open takes the lowest number that is free.",
    _threads("SamsungDS/libvfn#34"),
)
TOLD_IS_DONE = Misconception(
    "The VMM was told to use an iommufd, so it does",
    "Which way a device goes is decided by the files that are opened for it. The list of descriptors tells.",
    _threads("kata-containers/kata-containers#12173", "kubevirt/kubevirt#18300"),
)
BOUND_IS_READY = Misconception(
    "Once the device is bound, its DMA works",
    "BIND takes the DMA and blocks it. ATTACH gives the device a page table, MAP gives the table its entries.",
    _threads("microsoft/openvmm#3465"),
)
MAP_PINS = Misconception(
    "MAP looks up the memory and pins it",
    "MAP notes what is meant. Memory is looked up and pinned when a page table shows it, now or later.",
)
ONE_MAP = Misconception(
    "What the program unmaps, the device loses",
    "The program has a map, and the device another one. Pinned pages stay until the device's map lets go of them.",
)

ALL = tuple(made for made in list(globals().values()) if isinstance(made, Misconception))
