"""What a failed call leaves behind: slips in the unwinding of BIND, and what Linux 7.2 itself leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..engine import names_of
from ..explore import FailurePoint, Leak, Result, Sweep, Witness, sweep
from ..explore.rerun import rerun
from ..explore.result import BROKEN, SAFE, UNFINISHED
from ..kernel.vfio.device_cdev import bind_locked, give_iommufd_back, open_and_publish, vfio_df_ioctl_bind_iommufd
from ..machine import Machine
from ..uapi import Errno
from .changed import changed
from .programs import bind, listed_for_a_vm
from .puzzle import Puzzle

_ASKED = "this is what a real 7.2.13 answered when it was asked"
_READ = "as read in the source, v7.2"


@dataclass(frozen=True)
class KnownLeak:
    """Something that Linux 7.2 itself leaves behind after a failure: not a mistake of the model, it does the same.

    * `point`: how the failure begins that does it, in `function`; with `by` it is any failure after that function;
    * `leaves`: what, and why; `known`: the recording that shows it, or how else it is known.
    """

    leaves: str
    known: str
    point: str = ""
    function: str = ""
    by: str = ""

    def explains(self, point: FailurePoint, leak: Leak) -> bool:
        """Is it this that was left behind?"""
        if self.by:
            return leak.function == self.by
        return point.what.startswith(self.point) and point.function == self.function


_REPLY = "copy_to_user"
KERNELS_OWN = (
    KnownLeak(
        "a BIND that is refused for a second file gives back, or loses, the VM of the first one: R13",
        "recorded: j-failed-bind-putkvm, j-failed-bind-two-vms",
        "single_open",
        "vfio_df_open",
    ),
    KnownLeak(
        "the token of a physical function is changed before the bind can fail",
        "recorded: q-failed-bind-sets-token",
        by="vfio_pci_core_match_token_uuid",
    ),
    KnownLeak(
        "a reply to ATTACH that cannot be written detaches what was attached before; after a PASID it detaches the wrong one",
        "recorded: f-replace-efault-other-order",
        _REPLY,
        "attach_and_tell",
    ),
    KnownLeak(
        "the reply is written last: VM device and descriptor stay, and nobody is told the number",
        "recorded: rnd-kvm-000098",
        _REPLY,
        "kvm_vm_ioctl",
    ),
    KnownLeak("the reply is written last: the mapping stays", _ASKED, _REPLY, "iommufd_ioas_map"),
    KnownLeak("the reply is written last: the mapping stays", _READ, _REPLY, "iommufd_ioas_map_file"),
    KnownLeak("the reply is written last: the copy stays", _READ, _REPLY, "copy_to"),
    KnownLeak("the reply is written last: what was unmapped stays unmapped", _READ, _REPLY, "iommufd_ioas_unmap"),
    KnownLeak("the reply is written last: what was unmapped stays unmapped", _ASKED, _REPLY, "iommufd_vfio_unmap_dma"),
    KnownLeak(
        "the reply is written last: what was unmapped stays unmapped", _READ, _REPLY, "vfio_iommu_type1_unmap_dma"
    ),
    KnownLeak("the reply is written last: what was set stays set", _ASKED, _REPLY, "iommufd_option"),
    KnownLeak("the driver has noted its answer before it is written", _READ, _REPLY, "write_device_info"),
    KnownLeak(
        "a mapping that was cut in two before the failure stays cut", _READ, "alloc iopt_area", "iopt_area_split"
    ),
)


def own(point: FailurePoint, leak: Leak) -> KnownLeak | None:
    """What the kernel is known to leave behind there; None if it should not."""
    return next((one for one in KERNELS_OWN if one.explains(point, leak)), None)


# ---- R25: BIND, and slips in its unwinding


@changed(vfio_df_ioctl_bind_iommufd)
def bind_forgets_the_group() -> None:
    """BIND without `vfio_device_unblock_group`.

    - async with on_failure(vfio_device_unblock_group, device):
    -     say(Phase.LOCK, "The lock of the device set: nobody else opens, binds or closes a device of this set now.")
    -     async with device.dev_set.lock:
    -         await bind_locked(df, bind, argument)
    + async with device.dev_set.lock:
    +     await bind_locked(df, bind, argument)
    """


def in_bind(*helpers: Callable[..., Any]) -> Callable[[Callable[[], None]], Callable[..., Any]]:
    """BIND with a change in the last of these functions, of which each calls the next one."""

    def make(named: Callable[[], None]) -> Callable[..., Any]:
        inner = changed(helpers[-1])(named)
        named.__doc__ = None  # the patch is done
        for outer, helper in zip((*reversed(helpers[:-1]), vfio_df_ioctl_bind_iommufd), reversed(helpers), strict=True):
            inner = changed(outer, **{helper.__name__: inner})(named)
        return inner

    return make


@in_bind(bind_locked, give_iommufd_back)
def bind_forgets_the_iommufd() -> None:
    """BIND without `iommufd_ctx_put`.

    - await iommufd_ctx_put(ictx, df, BINDING)
    """


@in_bind(bind_locked, give_iommufd_back)
def bind_forgets_the_pointer() -> None:
    """BIND without `df->iommufd = NULL`.

    - await store(df.iommufd, None)
    """


@in_bind(bind_locked, open_and_publish)
def bind_forgets_the_vm() -> None:
    """BIND without `vfio_device_put_kvm`.

    - await vfio_device_put_kvm(device)
    """


@in_bind(bind_locked, open_and_publish)
def bind_opens_the_gate_too_early() -> None:
    """BIND with the gate before the copy of `out_devid`.

      try:
    +     await store(device.cdev_opened, True)
    +     await store_release(df.access_granted, True)
          await publish_devid(df, where)

    - await store(device.cdev_opened, True)
    - await store_release(df.access_granted, True)
    """


@dataclass(frozen=True)
class Slip:
    """A line that somebody forgot, or put at a wrong place, in BIND: `function` has it; `leaks` is what the sweep must name."""

    name: str
    story: str
    function: Callable[..., Any]
    leaks: str

    @property
    def patches(self) -> dict[str, Callable[..., Any]]:
        """As `explore` and `sweep` take them."""
        return {"vfio_df_ioctl_bind_iommufd": self.function}


SLIPS = (
    Slip(
        "group",
        "The group stays blocked: it can never be opened again.",
        bind_forgets_the_group,
        "vfio_group 1.cdev_device_open_cnt is 1 instead of 0",
    ),
    Slip(
        "iommufd",
        "The iommufd is not given back: its file lives as long as the device file does.",
        bind_forgets_the_iommufd,
        "file iommu#1.f_ref counts vfio_device_file 1 (bound to it) 1 times instead of 0",
    ),
    Slip(
        "pointer",
        "The pointer to the iommufd is not reset: the file looks half bound.",
        bind_forgets_the_pointer,
        "vfio_device_file 1.iommufd is iommufd_ctx 1 instead of None",
    ),
    Slip(
        "vm",
        "The VM is not given back: it can never be destroyed.",
        bind_forgets_the_vm,
        "kvm 1.users_count counts vfio_device vfio0 (bound for this VM) 1 times instead of 0",
    ),
    Slip(
        "gate",
        "The gate opens before the ID is written: when that fails the file of a closed device stays usable.",
        bind_opens_the_gate_too_early,
        "vfio_device_file 1.access_granted is 1 instead of 0",
    ),
)


class Unwinding(Puzzle):
    """A puzzle about one call: not the order of threads is tried, but everything in the call that can fail."""

    @property
    def ways(self) -> list[tuple[tuple[str, ...], dict[str, Callable[..., Any]]]]:
        """One for each slip."""
        return [((), slip.patches) for slip in SLIPS]

    @property
    def faults(self) -> dict[str, dict[str, Callable[..., Any]]]:
        """The slips."""
        return {slip.name: slip.patches for slip in SLIPS}

    def sweep(
        self, without: Iterable[str] = (), patches: dict[str, Callable[..., Any]] | None = None, **limits: Any
    ) -> Sweep:
        """Every failure of the call."""
        return sweep(self.setup, self.programs()["A"][0], patches, without, thread="A", **limits)

    def explore(
        self,
        without: Iterable[str] = (),
        patches: dict[str, Callable[..., Any]] | None = None,
        schedules: int | None = None,
        **options: Any,
    ) -> Result:
        """`sweep`, in the shape of an exploration: a failure stands for a schedule, for the limits too.

        Of the other options those that are about several schedules change nothing.
        """
        names = names_of(without)
        limits = {name: value for name, value in options.items() if name in ("seconds", "progress", "stop")}
        found = self.sweep(names, patches, failures=schedules, **limits)
        name = self.called(names, patches or {})

        def witness(what: str, point: FailurePoint, effects: int, leak: Leak | None = None) -> Witness:
            steps: list[int] = []

            def run(schedule: tuple[str, ...]) -> Machine:
                machine = self.setup()
                if names:
                    machine.take_out(*names)
                machine.patch(**(patches or {}))
                machine.fail_next(point.number, Errno[point.errno])
                steps.append(rerun(machine, self.programs(), schedule))
                return machine

            at = f"{name} at {point.number} {point.errno}" if name else ""
            told = (leak.in_short, leak.cells) if leak else ()
            return Witness(what, ("A",) * effects, run, lambda: steps[-1], at, *told)

        wrong = [
            witness(f"{leak.in_a_line}. What failed: {tried.point.in_words}", tried.point, tried.effects, leak)
            for tried in sorted(found.points, key=lambda tried: tried.effects)
            for leak in sorted(tried.leaks, key=lambda leak: (not leak.line, leak.what))  # first what has a line
        ]
        ends = {(("A", (tried.ended,)),): witness("", tried.point, tried.effects) for tried in found.points}
        return Result(
            verdict=BROKEN if wrong else SAFE if found.complete else UNFINISHED,
            complete=found.complete,
            transitions=sum(tried.effects for tried in found.points),
            schedules=len(found.points),
            seconds=found.seconds,
            violations=wrong,
            outcomes=dict(sorted(ends.items())),
            limit=found.limit,
            tried="all invariants, and whether every field and count is as before, after each failure",
        )


R25 = Unwinding(
    name="R25",
    title="a BIND that fails half-way",
    story="A program binds its device, and something fails on the way: memory is short, the driver gives up, the ID cannot be "
    "written. Whatever fails, every counter must be back where it began; a single forgotten line leaves something behind.",
    setup=partial(listed_for_a_vm, "vmm"),
    calls={"A": [bind("vmm")]},
    properties=(),
    faulty=SLIPS[0].patches,
    happens="instead of",
    shortest=(58, 61, 61, 59, 149),
    source="drivers/vfio/device_cdev.c: vfio_df_ioctl_bind_iommufd, labels out_close_device, out_put_kvm, out_unlock (v7.2)",
)
PUZZLES = (R25,)
