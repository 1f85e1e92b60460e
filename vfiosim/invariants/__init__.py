"""What must always be true: `rules` says what an invariant is and checks them all; the invariants are in the other files."""

from . import iommu, vfio
from .rules import INVARIANTS, Invariant, check

__all__ = ["INVARIANTS", "Invariant", "check", "iommu", "vfio"]
