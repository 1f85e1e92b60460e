"""What must always be true: `rules` says what an invariant is and checks them all; the invariants are in the other files.

The ten that everybody should know, and where they are:

| | what holds | name |
|---|---|---|
| 1 | behind an open gate is an open device, and the binding holds the iommufd | `gate_means_open` |
| 2 | a group counts its bound files | `group_counts_bindings` |
| 3 | an open group has no bound device | `group_and_node_exclude_each_other` |
| 4 | the DMA of a group is counted for one owner | `dma_has_one_owner` |
| 5 | what has an ID is held; `users` and `wait_cnt` are ledgers, so they are the sum of who holds | `published_object_is_held` |
| 6 | attached devices of a group share one page table and hold it | `attached_devices_hold_their_table` |
| 7 | a registration counts the driver and each open file | `registration_counts_open_files` |
| 8 | a VM is held by each device that points to it | `vm_is_counted_by_who_points_to_it` |
| 9 | a file that knows a VM is in a list of its kvm-vfio device | `known_vm_lists_the_file` |
| 10 | the file of an iommufd is held by all that live in it | `context_is_held_by_its_objects` |

That no reference is lost or given back twice is looked at for every count there is, see `rules.check`.
"""

from . import iommu, vfio
from .rules import INVARIANTS, Invariant, cells_of, check

__all__ = ["INVARIANTS", "Invariant", "cells_of", "check", "iommu", "vfio"]
