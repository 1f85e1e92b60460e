"""A VMM in Python, without anything of vfiosim."""

import fcntl
import os
import struct

BIND, GET_INFO = 0x3B76, 0x3B6B

device = os.open("/dev/vfio/devices/vfio0", os.O_RDWR)
iommufd = os.open("/dev/iommu", os.O_RDWR)
answer = fcntl.ioctl(device, BIND, struct.pack("<IIiI", 16, 0, iommufd, 0))
assert struct.unpack("<IIiI", answer)[3] != 0
info = fcntl.ioctl(device, GET_INFO, struct.pack("<6I", 24, 0, 0, 0, 0, 0))
assert struct.unpack("<6I", info)[2:4] == (9, 5)
name = os.listdir("/sys/bus/pci/devices/0000:01:00.0/vfio-dev")[0]
with open(f"/sys/class/vfio-dev/{name}/dev") as file:
    major, minor = map(int, file.read().split(":"))
assert os.fstat(device).st_rdev == os.makedev(major, minor) == os.stat(f"/dev/vfio/devices/{name}").st_rdev
assert os.path.realpath("/sys/bus/pci/devices/0000:01:00.0/iommu_group") == "/sys/kernel/iommu_groups/1"
os.close(device)
