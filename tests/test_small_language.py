"""What a student may try in the place of a kernel function, and what each is told: nothing is harmed, hidden or waited for."""

import runpy
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.bound import bind, works
from vfiosim import KernelError, PatchError, uapi
from vfiosim.explore import explore
from vfiosim.puzzles import PUZZLES
from vfiosim.puzzles.programs import ready_to_bind

HEAD = (
    "import asyncio, builtins, functools, itertools, random, re, sys, time; from contextlib import contextmanager, suppress; "
    "import vfiosim; from vfiosim import uapi, KernelError, KernelOops; from vfiosim.engine import *; from vfiosim.engine import "
    "effects; from vfiosim.uapi import Errno; from vfiosim.kernel.kvm.kvm import Kvm; "
    "from vfiosim.kernel.iommufd.main import _iommufd_object_alloc; seen = []; total = 0; "
    "answer = uapi.VfioDeviceBindIommufd(); pair = answer, 1; numbers = (n for n in (1, 2)); failed = KernelError(Errno.EPERM)\n"
)
END = "runs on and on, and awaits no effect"
KEEPS = "keeps something from one call to the next: shared state must be a field that the kernel has"
SHARED = "shared state must be a field that the kernel has; what belongs to one call is a local variable"
NOT_MINE = "which was not made in this function: store a new tuple in a field, `await store(field, (*before, new))`"
PART = "which was not made in this function: a table of the kernel is changed by `await xa_store(table, slot, value)`"
UNDERSCORE = "what begins with an underscore is Python's, and not the kernel's"
BUILTIN = "kernel code has effects, kernel functions, and some builtins such as len, range, min and isinstance"
DOT = "a field is named by what stands behind the dot"
LOOP = "write a loop, or a comprehension"
FAILS = "kernel code fails by `await refuse_if(condition, errno, name, sentence)`"
CATCH = "kernel code fails with a KernelError, so write `except KernelError`"
PRINTS = "kernel code neither prints nor reads; `say(Phase.LOCK, sentence)` begins a new step of the trace"
YIELDS = "yields: kernel code awaits effects, and answers by `return`"
FOR = "has an `async for`: write `for` or `while`, and await in its body"
IN_FOR = "awaits inside of a generator: write a list, [await … for …]"

# What is in the body, the line of it that is meant, and what is told.
BODIES: dict[str, tuple[str, int, str]] = {
    # something is kept from call to call
    "an attribute of an object": ("df.device.taken = True", 1, f"stores to an attribute, `df.device.taken`: {SHARED}"),
    "a field by hand": ("df.kvm = None", 1, "stores to an attribute, `df.kvm`: write `await store(df.kvm, None)`"),
    "a count by hand": ("df.device.refcount = 1", 1, "write `await get(df.device.refcount, holder, reason)`, or `put`"),
    "a table by hand": ("df.device.pasids = {}", 1, "write `await xa_store(df.device.pasids, slot, value)`"),
    "an attribute through a local name": ("device = df.device\ndevice.taken = 1", 2, SHARED),
    "an attribute of what was loaded": ("kvm = await load(df.kvm)\nfor kvm.taken in (1, 2):\n    pass", 2, SHARED),
    "as a loop variable": ("for df.tries in (1, 2):\n    pass", 1, SHARED),
    "as a loop variable in a comprehension": ("[1 for df.tries in (1, 2)]", 1, SHARED),
    "augmented": ("df.access_granted += 1", 1, "write `await store(df.access_granted, …)`"),
    "augmented, unknown": ("df.tries += 1", 1, SHARED),
    "with others": ("a, df.tries = 1, 2", 1, SHARED),
    "in a walrus": ("while (n := len(df.tries)):\n    df.tries = n", 2, SHARED),
    "deleted": ("del df.kvm", 1, "deletes something: store None in a field, and just leave a local variable alone"),
    "inside of a field": ("df.kvm.value = None", 1, "looks into a field, `df.kvm.value`: write `await load(df.kvm)`"),
    "a look into a field": ("if df.kvm.value is None:\n    pass", 1, "write `await load(df.kvm)`"),
    "a look at a holder": ("df.device.dev_set.lock.holder", 1, "write `await load(df.device.dev_set.lock)`"),
    "the engine": ("current().engine", 1, "reads engine of"),
    "the thread's list": ("current().task_work.append(1)", 1, NOT_MINE),
    "a global list": ("seen.append(df)", 1, f"changes `seen`, {NOT_MINE}"),
    "a global list, by its slot": ("seen[:] = [1]", 1, f"changes a part of `seen`, {PART}"),
    "a global list, read": ("await refuse_if(len(seen) > 1, Errno.EPERM, 'a', 'b')", 1, "uses `seen`, a list that outlives a call"),
    "a global list by another name": ("mine = seen\nmine.append(1)", 2, f"changes `mine`, {NOT_MINE}"),
    "a global list in a local one": ("mine = [1] if df else seen\nmine.append(1)", 2, f"changes `mine`, {NOT_MINE}"),
    "a global list, awaited": ("await seen.append(1)", 1, "uses `seen`, a list that outlives a call"),
    "global": ("global total\ntotal += 1", 1, KEEPS),
    "an attribute of itself": ("mine.tries = 1", 1, SHARED),
    "an attribute of a class": ("type(df).tries = 1", 1, SHARED),
    "a class attribute by its name": ("Kvm.tries = 1", 1, SHARED),
    "__dict__": ("df.__dict__['taken'] = True", 1, f"reaches for `df.__dict__`: {UNDERSCORE}"),
    "__class__": ("df.__class__.taken = True", 1, f"reaches for `df.__class__`: {UNDERSCORE}"),
    "setattr": ("setattr(df, 'kvm', None)", 1, f"uses `setattr`: {DOT}"),
    "getattr": ("getattr(df, 'kv' + 'm')", 1, f"uses `getattr`: {DOT}"),
    "vars": ("vars(df)['taken'] = 1", 1, f"changes a part of `vars(df)`, {PART}"),
    "object.__setattr__": ("object.__setattr__(df, 'taken', 1)", 1, UNDERSCORE),
    "an effect replaced": ("effects.load = None", 1, SHARED),
    "an effect replaced by subscript": ("sys.modules['vfiosim'].x = 1", 1, SHARED),
    "a function stored": (
        "def kept():\n    return 1\nawait store(df.device.kvm, kept)", 3, "hands the function kept to store"
    ),
    "a list stored": (
        "await store(df.access_granted, [1])", 1, "is refused: a store takes an immutable value or a kernel object, not a list"
    ),
    "a list in a new object": ("await alloc(Kvm, [1])", 1, "is refused: a store takes an immutable value"),
    "a list in a new object of the kernel's making": (
        "await _iommufd_object_alloc(df, Kvm, [1])", 1, "an object is born with what cannot change, not with a list"
    ),
    "an object by hand": ("Kvm(df)", 1, "makes a kernel object by hand: write `await alloc(Kvm, …)`"),
    "a name that makes nothing new": (
        "def dict(known):\n    return known\nmine = dict(df.device.dev.hardware.bars)\nmine[9] = 1", 4, "changes a part of `mine`"
    ),
    "a struct": ("mine = answer\nmine.flags += 1", 1, "uses `answer`, a VfioDeviceBindIommufd that outlives a call"),
    "a struct in a tuple": ("mine, _ = pair\nmine.flags += 1", 1, "uses `pair`, a VfioDeviceBindIommufd that outlives a call"),
    "a struct as a helper's default value": (
        "def helper(mine=answer):\n    return mine.flags", 1, "uses `answer`, a VfioDeviceBindIommufd that outlives a call"
    ),
    "a struct that is stored": (
        "await store(df.access_granted, uapi.VfioDeviceBindIommufd())", 1, "or a kernel object, not a VfioDeviceBindIommufd"
    ),
    "a generator from outside": ("next(numbers)", 1, f"uses `numbers`: {BUILTIN}"),
    "an error from outside": ("error = failed\nerror.tries = 1", 2, SHARED),
    "an error that was caught": (
        "try:\n    await refuse_if(True, Errno.EPERM, 'a', 'b')\nexcept KernelError as error:\n    error.tries = 1", 4, SHARED
    ),
    "as what a lock gives": ("async with df.device.dev_set.lock as df.kvm:\n    pass", 1, "write `await store(df.kvm, …)`"),
    "a local one, in a helper": (
        "some = []\ndef helper():\n    some.append(1)", 3, f"changes `some`, {NOT_MINE}"
    ),
    "a struct that is none, by its annotation": ("mine: uapi.VfioDeviceBindIommufd = df.device\nmine.flags = 1", 2, SHARED),
    "letters of another width": ("df.ｋｖｍ = None", 1, "write `await store(df.kvm, None)`"),
    # other words
    "a default value of a helper": ("def helper(of=df.__class__):\n    return of", 1, f"reaches for `df.__class__`: {UNDERSCORE}"),
    "a lambda as a default value": ("def helper(of=lambda: 1):\n    return of", 1, "has a lambda: write a `def` with a name"),
    "exec in a default value": ("def helper(of=exec('1')):\n    return of", 1, f"uses `exec`: {BUILTIN}"),
    "letters of another width, and underscores": ("df.__ｃｌａｓｓ__", 1, f"reaches for `df.__class__`: {UNDERSCORE}"),
    "a letter that only looks like it": ("await lоad(df.kvm)", 1, "uses `lоad`, and there is nothing of this name"),
    "except*": ("try:\n    pass\nexcept* KernelError:\n    pass", 1, "has a trystar, which kernel code does without"),
    "an async generator": ("async def numbers():\n    yield 1", 2, YIELDS),
    "say without a phase": ("say('LOCK', 'a')", 1, "write `say(Phase.LOCK, sentence)`"),
    "say with a number": ("say(Phase.LOCK, 3)", 1, "write `say(Phase.LOCK, sentence)`"),
    "memory by its address": ("uapi.VfioDeviceBindIommufd.from_address(0)", 1, "calls from_address, which is no kernel code"),
    "an array of structs": ("(uapi.VfioDeviceBindIommufd * 10 ** 10)()", 1, "which is no kernel code"),
    "rounded to a huge place": ("round(5, -10 ** 9)", 1, f"uses `round`: {BUILTIN}"),
    "import": ("import random", 1, "imports something: write the import above the function"),
    "from import": ("from time import sleep", 1, "imports something: write the import above the function"),
    "random": ("random.random()", 1, f"uses `random`: {BUILTIN}"),
    "the clock": ("if time.time() > 1:\n    return", 1, f"uses `time`: {BUILTIN}"),
    "where it lies in memory": ("id(df)", 1, f"uses `id`: {BUILTIN}"),
    "hash": ("hash('a')", 1, f"uses `hash`: {BUILTIN}"),
    "exec": ("exec('while True: pass')", 1, f"uses `exec`: {BUILTIN}"),
    "eval": ("eval('df.kvm')", 1, f"uses `eval`: {BUILTIN}"),
    "open": ("open('/etc/passwd')", 1, f"uses `open`: {PRINTS}"),
    "print": ("print(df)", 1, f"uses `print`: {PRINTS}"),
    "sys.exit": ("sys.exit()", 1, f"uses `sys`: {BUILTIN}"),
    "builtins": ("builtins.exec('1')", 1, f"uses `builtins`: {BUILTIN}"),
    "the machine's door": ("vfiosim.Machine()", 1, "uses `vfiosim.Machine`"),
    "asyncio": ("await asyncio.sleep(0)", 1, f"uses `asyncio`: {BUILTIN}"),
    "a class": ("class Mine:\n    pass", 1, "declares a class: the kernel's structs are there already, write functions"),
    "a lambda": ("key = lambda: 1", 1, "has a lambda: write a `def` with a name"),
    "a decorated helper": (
        "@functools.cache\ndef helper():\n    return 1", 1, "has a decorator, @functools.cache: write the function without it"
    ),
    "match": ("match df:\n    case _:\n        pass", 1, "has a match, which kernel code does without"),
    "yield in a helper": ("def numbers():\n    yield 1\nfor n in numbers():\n    pass", 2, YIELDS),
    "yield from": ("def numbers():\n    yield from (1, 2)", 2, YIELDS),
    "async for": ("async for n in df:\n    pass", 1, FOR),
    "async comprehension": ("[n async for n in df]", 1, FOR),
    "a generator that awaits": ("any(await load(one) for one in (df.kvm, df.kvm))", 1, IN_FOR),
    "a generator that is kept": ("some = (n for n in (1, 2))", 1, "keeps a generator: write a list, [… for …]"),
    "nonlocal": ("n = 0\ndef helper():\n    nonlocal n\n    n += 1", 3, KEEPS),
    "with": ("with contextmanager(df):\n    pass", 1, "has `with contextmanager(df)`: a lock is taken by `async with lock:`"),
    "async with of what is no lock": ("async with df.kvm:\n    pass", 1, "has `async with` for <Field vfio_device_file 1.kvm>"),
    "finally": ("try:\n    pass\nfinally:\n    return 1", 4, "has a `finally`: write `except KernelError:`"),
    "another error": ("raise ValueError('no')", 1, f"raises ValueError: {FAILS}"),
    "SystemExit": ("raise SystemExit", 1, f"raises SystemExit: {FAILS}"),
    "GeneratorExit": ("raise GeneratorExit", 1, f"raises GeneratorExit: {FAILS}"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", 1, f"raises KeyboardInterrupt: {FAILS}"),
    "a name that is not there": ("await load(df.kvm, x)", 1, "uses `x`, and there is nothing of this name"),
    "%": ("'%1000000000d' % 1", 1, 'formats a text by `%`: write f"…"'),
    "format": ("'{:1000000000}'.format(1)", 1, "calls format of '{:1000000000}'"),
    "a format of any width": ("f'{1:1000000000}'", 1, "writes a text of unknown width: a format has a fixed width of at most 999"),
    "a format of computed width": ("n = 10 ** 9\nf'{1:{n}}'", 2, "writes a text of unknown width"),
    "where a function lies": ("f'{load}'", 1, "writes the function load into a text"),
    "map": ("list(map(len, ('a', 'b')))", 1, f"uses `map`: {LOOP}"),
    "iter": ("list(iter(df.oid, 1))", 1, f"uses `iter`: {LOOP}"),
    "itertools": ("for n in itertools.count():\n    pass", 1, f"uses `itertools`: {BUILTIN}"),
    "a set in its order": ("for thing in {df, df.device}:\n    pass", 1, "looks through a set, which has no order"),
    "a set as a list": ("first = list({df, df.device})[0]", 1, "looks through a set, which has no order"),
    "a set, unpacked": ("a, b = {df, df.device}", 1, "looks through a set, which has no order"),
    "a regular expression": ("re.fullmatch('(a*)*b', 'a' * 40)", 1, f"uses `re`: {BUILTIN}"),
    # it cannot be caught
    "bare except": ("try:\n    pass\nexcept:\n    pass", 3, f"catches too much, a bare `except`: {CATCH}"),
    "except Exception": (
        "while True:\n    try:\n        pass\n    except Exception:\n        pass", 4, f"`except Exception`: {CATCH}"
    ),
    "except BaseException": ("try:\n    pass\nexcept BaseException as e:\n    kept = e", 3, f"`except BaseException`: {CATCH}"),
    "except with another name": ("E = KernelError\ntry:\n    pass\nexcept E:\n    pass", 4, f"`except E`: {CATCH}"),
    "suppress": ("with suppress(Exception):\n    pass", 1, "has `with suppress(Exception)`"),
    # it runs on, or takes all memory
    "while True": ("while True:\n    pass", 1, END),
    "a loop that catches": (
        "while True:\n    try:\n        while True:\n            pass\n    except KernelError:\n        pass", 3, END
    ),
    "a list that grows": ("some = [1]\nfor n in some:\n    some.append(n)", 2, END),
    "a long range": ("for n in range(10 ** 12):\n    pass", 1, END),
    "sum of a long range": ("sum(range(10 ** 12))", 1, END),
    "nested comprehensions": ("n = range(999)\n[1 for a in n for b in n for c in n]", 2, END),
    "a huge power": ("2 ** 10 ** 9", 1, "makes a number of more than 4,096 bits; the kernel's have 64"),
    "a huge shift": ("1 << 10 ** 10", 1, "makes a number of more than 4,096 bits"),
    "squares": ("n = 3\nwhile True:\n    n = n * n", 3, "makes a number of more than 4,096 bits"),
    "bytes": ("bytes(10 ** 10)", 1, END),
    "bytearray": ("bytearray(10 ** 10)", 1, END),
    "a long list": ("[0] * 10 ** 10", 1, END),
    "a long text": ("'a' * 10 ** 10", 1, END),
    "a text that doubles": ("text = 'ab'\nwhile True:\n    text += text", 3, END),
    "a text that doubles in an f-string": ("text = 'ab'\nwhile True:\n    text = f'{text}{text}'", 3, END),
    "a list that doubles": ("some = [1]\nwhile True:\n    some = [*some, *some]", 3, END),
    "a tuple in a tuple": ("some = (1,)\nwhile True:\n    some = (some, some)", 3, END),
    "lists in lists, compared": (
        "some = []\nfor n in range(60):\n    more = []\n    more.append(some)\n    more.append(some)\n    some = more\nsome == 1",
        5,
        END,
    ),
    "ljust": ("'a'.ljust(10 ** 10)", 1, END),
    "to_bytes": ("(1).to_bytes(10 ** 10, 'little')", 1, END),
    "join": ("text = 'a' * 9999\ntext.join(['b'] * 9999)", 2, END),
    "replace": ("text = 'a' * 9999\ntext.replace('', text)", 2, END),
    "sorted by a helper": (
        "def slow(n):\n    while True:\n        pass\nsorted([2, 1], key=slow)", 2, "your function slow runs on and on"
    ),
    "a helper that calls itself": ("def helper(n):\n    return helper(n)\nhelper(1)", 2, "raises RecursionError"),
    "itself again": ("await mine(df)", 1, "raises RecursionError"),
    "effects without end": (
        "while True:\n    await load(df.access_granted)", 2, "has awaited 10,000 effects in one call, and does not come to an end"
    ),
    "a list in itself": ("some = []\nsome.append(some)\nf'{some}'", 3, END),
    "two helpers that call each other": (
        "def one(n):\n    return two(n)\ndef two(n):\n    return one(n)\none(1)", 2, "raises RecursionError"
    ),
    "looked for in a range": ("while True:\n    df in range(3000000)", 2, END),
    # what the kernel is given
    "a field for its value": ("if df.access_granted:\n    pass", 1, "itself for true or false: write `await load(…)`"),
    "a field for its value, refused": (
        "await refuse_if(df.access_granted, Errno.EPERM, 'a', 'b')", 1, "itself for true or false: write `await load(…)`"
    ),
    "a field compared with None": ("df.kvm is None", 1, "compares the field vfio_device_file 1.kvm itself with something"),
    "a field compared": ("df.access_granted == True", 1, "itself with something: write `await load(…)` for its value"),
    "an effect awaited twice": ("kvm = load(df.kvm)\nawait kvm\nawait kvm", 3, "awaits load a second time: call it again"),
    "a helper that is not awaited": ("async def helper():\n    pass\nhelper()", 3, "forgets an await before helper()"),
    "the next of nothing": ("next(n for n in ())", 1, "asks for the next one where there is none: write `next(…, None)`"),
    "a field of a struct that is not there": ("mine = uapi.VfioDeviceBindIommufd()\nmine.taken = 1", 2, "has no field 'taken'"),
    "an assert": ("assert df is None", 0, "finds false what it asserts in mine"),
    "a lock inside of itself": (
        "async with df.device.group.group_lock:\n    async with df.device.group.group_lock:\n        pass", 0, "held by itself"
    ),
    "a number awaited": ("await 3", 1, "awaits 3, which is no effect; kernel code awaits load, store, get, put, refuse_if"),
    "a text awaited": ("await df.oid", 1, "awaits 'vfio_device_file 1', which is no effect"),
    "a number called": ("n = 3\nn()", 2, "calls 3, which is no kernel code"),
    "a method of Python's": ("df.oid.format_map({})", 1, "calls format_map of 'vfio_device_file 1'"),
    "cells()": ("df.cells()", 1, "reads cells of <vfio_device_file 1>, which is not the kernel's"),
    "a number loaded": ("await load(3)", 1, "gives load 3 as argument 1, which must be a field"),
    "a slot that is a list": ("await xa_load(df.device.pasids, df)", 1, "gives xa_load <vfio_device_file 1> as argument 2"),
    "a lock given back twice": (
        "lock = df.device.group.group_lock\nawait acquire(lock)\nawait release(lock)\nawait release(lock)", 0,
        "which it does not hold"
    ),
    "an await that was forgotten": ("load(df.kvm)", 1, "forgets an await before load(df.kvm)"),
    "two stars": ("some = (df.kvm,)\nawait load(*some, **{'a': 1})", 2, "raises TypeError: load() got an unexpected keyword"),
    "success as an errno": ("await refuse_if(True, 0, 'a', 'b')", 1, "0 is no errno: they are numbers from 1 to 4095"),
    "a number of the kernel's inside": ("await refuse_if(True, -22, 'a', 'b')", 1, "-22 is no errno"),
    "in a comprehension": ("[await load(one) for one in (df.kvm, 3)]", 1, "your function mine "),
    "zero": ("1 // 0", 1, "raises ZeroDivisionError: integer division or modulo by zero"),
}  # fmt: skip


def written(path: Path, body: str, head: str = "async def mine(df):") -> dict[str, Any]:
    """What a file with this function has, as a student would write it."""
    path.write_text(f"{HEAD}{head}\n{textwrap.indent(body, '    ')}\n", "utf-8")
    return runpy.run_path(str(path))


@pytest.fixture(autouse=True)
def no_coroutine_is_forgotten():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning)
        yield


@pytest.mark.parametrize("name", BODIES)
def test_each_is_told_in_one_sentence_with_its_line_and_the_machine_works_on(name, tmp_path):
    body, line, told = BODIES[name]
    mine = written(tmp_path / "mine.py", body)["mine"]
    m, p, error = bind(mine)
    assert told in str(error)
    assert "\n" not in str(error)
    if line:
        assert isinstance(error, PatchError)
        assert f"(line {line + 2} of {tmp_path / 'mine.py'})" in str(error)
        assert works(m, p)


def test_well_over_a_hundred_were_tried():
    assert len(BODIES) > 160


GOOD = """
device: vfiosim.kernel.vfio.vfio.VfioDevice = df.device

def wide(number, by=2):
    \"\"\"A helper with a default value.\"\"\"
    return number << by

async def count(field):
    return wide(await load(field) or 0)

found, seen = [], set()
for cell in (df.access_granted, df.access_granted):
    n = await count(cell)
    if n in seen:
        continue
    seen.add(n)
    found.append(n)
else:
    found += [max(found, default=0)]
answer = uapi.VfioDeviceBindIommufd(iommufd=3)
answer.flags |= 1
assert answer.flags == 1
text = f"{df.label}: {sorted(seen)} {len(found):3d} {b'ab'.hex()} {any(n > 1 for n in found)}"
async with shared(device.group.group_lock):
    with suppress(KernelError):
        await refuse_if(True, Errno.EBUSY, "other", "another sentence")
    try:
        await refuse_if(found[-1] == 0, Errno.EPERM, "mine", text)
    except KernelError as error:
        said = error.errno
        raise
"""


def test_what_kernel_code_needs_is_there(tmp_path):
    mine = written(tmp_path / "mine.py", GOOD)["mine"]
    _, _, error = bind(mine)
    assert isinstance(error, KernelError), error
    assert (error.check, error.errno, str(error).partition(" (")[0]) == ("mine", 1, "[EPERM] 1: [0]   2 6162 False")
    line = next(n for n, text in enumerate(GOOD.splitlines(), 3) if '"mine", text' in text)
    assert error.where == f"{tmp_path / 'mine.py'}:{line}"


HEADS = {
    "async def mine(df, kept=[]):": "uses `a default value`, a list that outlives a call",
    "@functools.cache\nasync def mine(df):": "your vfio_df_open is wrapped by something: write a plain `async def`",
    "@(lambda f: f)\nasync def mine(df):": "has a decorator, @lambda f: f: write the function without it",
    "async def mine():": "your vfio_df_open cannot be called as the kernel calls it",
}


@pytest.mark.parametrize("head", HEADS)
def test_what_stands_around_a_function_is_looked_at_too(head, tmp_path):
    _, _, error = bind(written(tmp_path / "mine.py", "await load(3)", head)["mine"])
    assert isinstance(error, PatchError)
    assert HEADS[head] in str(error)


def test_what_hangs_on_an_object_cannot_be_changed_by_way_of_a_helper(tmp_path):
    """What a model of hardware is like is the same for all machines."""
    body = "def helper(into: list[int]):\n    into.update({9: 1})\nhelper(df.device.dev.hardware.bars)\nawait load(3)"
    m, p, error = bind(written(tmp_path / "mine.py", body)["mine"])
    assert "gives load 3" in str(error)
    assert works(m, p)
    hardware = {thing.hardware.bars.get(9) for thing in m.engine.objects.values() if thing.kind == "device"}
    assert hardware == {None}


def test_a_variable_of_the_function_around_it_is_no_way_out(tmp_path):
    around = (
        "def make():\n    seen = {}\n    async def mine(df):\n        seen['df'] = df\n    return mine\nmine = make()"
    )
    (tmp_path / "mine.py").write_text(HEAD + around, "utf-8")
    _, _, error = bind(runpy.run_path(str(tmp_path / "mine.py"))["mine"])
    assert "changes a part of `seen`" in str(error)


def test_a_function_without_a_text_is_told_where_to_write_it():
    names: dict[str, Any] = {}
    exec("async def mine(df):\n    pass", names)
    _, _, error = bind(names["mine"])
    assert str(error).startswith("the text of your function mine cannot be found: define it in a cell or in a file")


HIDES = """
if not df.device.taken:
    df.device.taken = True
"""


def test_two_binds_that_both_believe_to_be_first_are_never_called_safe_by_what_a_search_cannot_see(tmp_path):
    """The state would be Python's, on an object of the kernel: one schedule, and it would look safe."""
    mine = written(tmp_path / "mine.py", HIDES)["mine"]
    puzzle = PUZZLES["R1"]
    with pytest.raises(PatchError, match="shared state must be a field that the kernel has"):
        explore(puzzle.setup, puzzle.programs(), puzzle.properties, patches={"vfio_df_open": mine})


def test_what_a_function_is_called_with_is_looked_up_when_it_is_put_in_and_not_later(tmp_path):
    names = written(tmp_path / "mine.py", "await refuse_if(True, Errno.EPERM, 'mine', f'{total}')")
    machine = ready_to_bind("p")
    machine.patch(vfio_df_open=names["mine"])
    names["mine"].__globals__["total"] = 7
    with pytest.raises(KernelError, match=r"\[EPERM\] 0"):
        machine.processes["p"].ioctl(3, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=4))
