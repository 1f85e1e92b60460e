"""VFIO: devices, groups, containers (drivers/vfio/)."""
