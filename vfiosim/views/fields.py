"""What the rows of a box mean, each in one sentence: the fields of the kernel's structs, and what is told of a call."""

from __future__ import annotations

FIELDS = {
    "access_granted": "1 from the moment at which the device may be used through this file.",
    "allowed": "The ranges of I/O addresses that may be given out without being asked for.",
    "areas": "What is mapped, by I/O address.",
    "auto_domain": "1 if the kernel made this page table for an attach, and frees it with the last one.",
    "cdev_device_open_cnt": "How many devices of the group are open through nodes of their own; the group node is shut meanwhile.",
    "cdev_opened": "1 while the device is open through its own node.",
    "comp": "Done when the last user of the device has gone; the unbind of the driver waits for it.",
    "container": "The container that the group was put into.",
    "container_users": "How many keep the group in its container.",
    "dev_set": "The devices that are reset together; its lock guards the open and close of each.",
    "device_count": "How many devices the set has.",
    "devices": "The devices of the VM, such as its kvm-vfio.",
    "devid": "The ID of the device in its iommufd, as BIND has told it.",
    "domain": "The page table that the IOMMU uses for the devices of the group.",
    "domains": "The page tables that show these mappings to the hardware.",
    "driver": "The driver that has the device.",
    "drivers": "How many devices of the group VFIO drivers have.",
    "f_ref": "How many hold the file open: descriptors, running calls, and others in the kernel.",
    "file_list": "The VFIO files that this VM was told of.",
    "group_list": "The groups in the container.",
    "has its ID": "The object has a number in the table, and is not finished yet.",
    "hwpt": "The page table to which this is attached.",
    "hwpt_list": "The page tables that show these mappings.",
    "ictx": "The iommufd to which this belongs; it is held open.",
    "igroup": "What the iommufd knows of the device's iommu_group.",
    "in this iommufd": "Held while BIND makes the object of the device, which takes this reference over.",
    "ioas": "The address space whose mappings this page table shows.",
    "iommu_driver": "What manages the mappings of the container.",
    "iommu_group": "The devices that the IOMMU cannot tell apart; one owner at a time has them all.",
    "iommufd": "The iommufd to which this is bound.",
    "iommufd_access": "What stands for a device without DMA in its iommufd.",
    "iommufd_attached": "1 while the device uses an address space.",
    "iommufd_device": "What stands for the device in its iommufd while it is bound.",
    "iova_alignment": "What I/O addresses have to be multiples of.",
    "iommu_group.domain": "What the IOMMU lets the group reach: what the kernel's own drivers need (default domain), nothing at "
    "all (blocking domain), or what a page table of the owner shows.",
    "kobj": "How many need the iommu_group: its devices, and whoever looks at it.",
    "kref": "How many need this memory.",
    "module": "How many need the module of this driver.",
    "objects": "What has this number in the iommufd. Two arrows: this counts in users and in wait_cnt.",
    "open_count": "How often the device is open; the first open takes it into use, the last close gives it back.",
    "opened_file": "The file through which the group is open; there is one at a time.",
    "owner": "Who has the DMA of the group; it is not counted.",
    "owner_cnt": "How many devices or files count on the owner of the DMA.",
    "pages": "The memory that is mapped here.",
    "pasid_attach": "Which page table is used for each PASID.",
    "private_data": "The struct behind the file.",
    "ref": "How many devices of the group are bound to this iommufd.",
    "refcount": "How many use the registered device: the driver, and each file that has it open; an unbind waits for them.",
    "reserved": "The ranges of I/O addresses that nobody may map.",
    "users": "How many keep the object from being destroyed. One is its number in the iommufd.",
    "users_count": "How many hold the VM: its file, its devices, its vCPUs, and VFIO devices.",
    "vconfig": "What was written into PCI configuration space since the device was opened, by offset; none while it is closed.",
    "vf_token": "The secret that the users of a function and of its virtual functions must share.",
    "vfio_ioas": "The address space that old VFIO calls on this iommufd use.",
    "wait_cnt": "How many have the object for a moment; who destroys it waits for them. One is its number in the iommufd.",
    "thread.argsz": "The size of the argument, as the caller tells it.",
    "thread.check": "What this step checks first, and how many more: ✓ lets the call go on, ✕ refuses it.",
    "thread.file": "The file that the call is about; it is held until the call returns.",
    "thread.flags": "What the caller asks for, bit by bit; an unknown bit is refused.",
    "thread.holds": "The locks that the call has.",
    "thread.iommufd": "The descriptor of the iommufd, as the caller tells it.",
    "thread.out_devid": "Where the call writes the ID of the device.",
    "thread.result": "What the call returns, or the error.",
    "thread.token_uuid_ptr": "Where in the caller's memory a token stands, if the flags say that there is one.",
    "thread.touches": "Memory that was freed is used: whatever is there now is read or changed.",
    "thread.waits for": "What the call cannot go on without.",
}  # by the name of the field, or by kind and field where that says more
SORTS = {
    "count": "A counter: so many references are held.",
    "lock": "A lock, and who has it: the others wait.",
    "pointer": "A pointer: its arrow leads to what it points to.",
    "value": "A value of the {kind}.",
}
DESCRIPTOR = "A descriptor: the number by which the program names an open file."
ARGUMENT = "A field of the call's argument."


def field_says(kind: str, name: str, sort: str) -> str:
    """What a row of a box of this kind means."""
    name = name.partition("[")[0]
    if kind == "fds":
        return DESCRIPTOR
    own = FIELDS.get(f"{kind}.{name}")
    if kind == "thread":
        return own or ("What the call holds while it runs." if sort == "pointer" else ARGUMENT)
    return own or FIELDS.get(name) or SORTS[sort].format(kind=kind)
