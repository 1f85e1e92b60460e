"""A bind that runs with a function of one's own, and whether the machine works on."""

from vfiosim import Machine, uapi

NODE, IOMMU = "/dev/vfio/devices/vfio0", "/dev/iommu"
BIND = uapi.VFIO_DEVICE_BIND_IOMMUFD


def bind(function, name="vfio_df_open", **options):
    """A machine on which a bind runs with a function of one's own: the machine, its process, and what the bind raises."""
    m = Machine(**options)
    p = m.process("vmm")
    dev, ctx = p.open(NODE), p.open(IOMMU)
    try:
        with m.patched(**{name: function}):
            p.ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=ctx))
    except Exception as error:
        return m, p, error
    raise AssertionError("the bind went well")


def works(m, p):
    """All locks are free, and the same process can do something sensible."""
    held = [cell.path for thing in m.engine.objects.values() for cell in thing.cells() if getattr(cell, "holder", None)]
    assert held == []
    assert p.task.alive.value
    other = m.process("other")
    other.open("/dev/vfio/devices/vfio1")
    p.exit()
    assert m.pending == []
    return True
