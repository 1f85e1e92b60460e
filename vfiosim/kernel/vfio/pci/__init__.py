"""The driver of PCI functions (drivers/vfio/pci/)."""
