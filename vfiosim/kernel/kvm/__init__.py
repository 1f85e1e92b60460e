"""Virtual machines, and what they know of VFIO files (virt/kvm/)."""
