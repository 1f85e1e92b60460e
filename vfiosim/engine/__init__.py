"""The engine: kernel code is a coroutine that awaits effects, everything else interprets that stream.

Knows nothing of VFIO. `objects` are what code works on, `effects`, `lifetime`, `sync` and `checks` what it can ask for,
`functions` how it is called and what it says, `engine` who runs it and keeps the journal.
"""

from .checks import UserMemory, copy_from_user, copy_to_user, pin_pages, refuse_if, require, return_to_user, warn_on
from .effects import (
    KernelOops,
    Request,
    claim,
    exchange,
    load,
    load_acquire,
    load_count,
    next_slot,
    peek,
    poke,
    store,
    store_release,
)
from .engine import Change, Engine, Micro, Thread
from .functions import FUNCTIONS, KernelFunction, Phase, current, kernel, say
from .lifetime import alloc, free, get, get_unless_zero, hand_over, put, put_if_last
from .objects import Cell, Count, Field, KObject, Table, count, field, table
from .source import Line
from .sync import Completion, Lock, acquire, complete, completion, mutex, release, spinlock, wait_for, wait_until_zero

__all__ = [
    "FUNCTIONS",
    "Cell",
    "Change",
    "Completion",
    "Count",
    "Engine",
    "Field",
    "KObject",
    "KernelFunction",
    "KernelOops",
    "Line",
    "Lock",
    "Micro",
    "Phase",
    "Request",
    "Table",
    "Thread",
    "UserMemory",
    "acquire",
    "alloc",
    "claim",
    "complete",
    "completion",
    "copy_from_user",
    "copy_to_user",
    "count",
    "current",
    "exchange",
    "field",
    "free",
    "get",
    "get_unless_zero",
    "hand_over",
    "kernel",
    "load",
    "load_acquire",
    "load_count",
    "mutex",
    "next_slot",
    "peek",
    "pin_pages",
    "poke",
    "put",
    "put_if_last",
    "refuse_if",
    "release",
    "require",
    "return_to_user",
    "say",
    "spinlock",
    "store",
    "store_release",
    "table",
    "wait_for",
    "wait_until_zero",
    "warn_on",
]
