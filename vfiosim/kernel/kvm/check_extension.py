"""What KVM can do on the recorded machine, an x86 processor with AMD's SVM (arch/x86/kvm/x86.c, v7.2).

The numbers are those of include/uapi/linux/kvm.h; a program asks for each that it wants to use.
"""

from __future__ import annotations

from typing import Final

YES: Final = 0x7D84148259A0F9C020968E3001008E3002178206314029CCF33F45E159DF  # a bit for each number whose answer is 1
AMOUNTS: Final = {
    9: 2,
    10: 32764,
    15: 2,
    25: 4096,
    31: 32,
    39: 14,
    66: 1024,
    74: 7,
    118: 2,
    128: 4096,
    129: 15,
    143: 15,
    157: 4224,
    168: 3,
    192: 1048576,
    195: 2031619,
    201: 4096,
    208: 4096,
    213: 4095,
    223: 1048576,
    244: 3,
}


async def kvm_vm_ioctl_check_extension_generic(number: int) -> int:
    """KVM_CHECK_EXTENSION: 0 for what KVM cannot do, else 1, or how much of it."""
    return AMOUNTS.get(number, YES >> number & 1 if 0 <= number < YES.bit_length() else 0)
