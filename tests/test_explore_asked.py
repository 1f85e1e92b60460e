"""Questions to the explorer and to the sweep that make no sense, or whose answer would prove nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from vfiosim import KernelError, Machine, Unsupported, uapi
from vfiosim.cli import main
from vfiosim.engine import Engine, refuse_if
from vfiosim.explore import explore, sweep
from vfiosim.invariants import Invariant
from vfiosim.kernel.vfio.vfio import VfioDeviceFile
from vfiosim.museum import ROOMS
from vfiosim.puzzles import PUZZLES
from vfiosim.puzzles.programs import bind, ready_to_bind
from vfiosim.uapi import Errno

ready = partial(ready_to_bind, "p")


# ---- what is taken out


def test_a_sweep_without_what_the_call_never_comes_by_is_refused() -> None:
    with pytest.raises(ValueError, match=r"never use 'group_luck' \(there is group_lock"):
        sweep(ready, bind("p"), without=["group_luck"])


def test_a_sweep_may_take_out_what_only_a_failure_comes_by() -> None:
    """The bind itself refuses nothing; the check is met where a failure on purpose is."""
    assert sweep(ready, bind("p"), without=["injected_fault"]).complete


def test_the_puzzle_of_the_unwinding_refuses_a_typing_error_as_every_other_one_does() -> None:
    with pytest.raises(ValueError, match="never use 'nix', so it cannot be taken out"):
        PUZZLES["R25"].explore(["nix"])


@pytest.mark.parametrize("without", ["group_lock", None, [1], 5])
@pytest.mark.parametrize(
    "ask",
    [
        lambda without: explore(ready, {"A": [bind("p")]}, [], without),
        lambda without: sweep(ready, bind("p"), None, without),
        PUZZLES["R1"].explore,
        PUZZLES["R25"].explore,
    ],
    ids=["explore", "sweep", "puzzle", "unwinding"],
)
def test_what_is_taken_out_is_a_list_of_names(ask: Any, without: Any) -> None:
    with pytest.raises(TypeError, match=r"is a list of names, such as \['group_lock'\], not"):
        ask(without)


def test_what_the_factory_has_taken_out_stays_out() -> None:
    def without_the_check(trace: bool = True) -> Machine:
        machine = ready_to_bind("p", trace=trace)
        machine.take_out("group_lock")
        return machine

    found = explore(without_the_check, {"A": [bind("p")]}, [], ["kvm_ref_lock"])
    assert found.outcome(A="0").machine.taken_out.names == {"group_lock", "kvm_ref_lock"}  # type: ignore[union-attr]


# ---- what the model has no answer to


def with_a_vm(trace: bool = True) -> Machine:
    """The device is 3, the iommufd 4, a VM 6, its virtual CPU 7."""
    machine = ready_to_bind("p", trace=trace)
    program = machine.processes["p"]
    program.ioctl(program.ioctl(program.open("/dev/kvm"), uapi.KVM_CREATE_VM, 0), uapi.KVM_CREATE_VCPU, 0)
    return machine


def test_a_call_that_is_not_modelled_is_told_like_a_limit_and_is_never_called_safe() -> None:
    found = explore(with_a_vm, {"A": [("p", "ioctl", 7, 0xAE80, 0)], "B": [("p", "close", 3)]}, [])
    assert (found.verdict, found.complete) == ("unfinished", False)
    assert found.limit == "0xae80 on a virtual CPU is not modelled (A is p: ioctl(7, 0xae80, 0))"
    assert found.limit in str(found).splitlines()[0]
    assert found.outcome(A="not modelled", B="0") is not None


@pytest.mark.parametrize("path", ["", "\0", "/etc/passwd"])
def test_a_path_that_is_not_modelled_is_named(path: str) -> None:
    found = explore(ready, {"A": [("p", "open", path, 0)]}, [])
    assert found.limit == f"opening {path!r} is not modelled (A is p: open({path!r}, 0))"


async def bind_asks_what_nobody_knows(df: Any, argument: int) -> int:
    """Kernel code that goes on although the model does not know how."""
    try:
        raise Unsupported("the weather")
    except KernelError:
        return 0


def test_what_is_not_modelled_is_told_even_where_kernel_code_goes_on_after_it() -> None:
    patches = {"vfio_df_ioctl_bind_iommufd": bind_asks_what_nobody_knows}
    assert not explore(ready, {"A": [bind("p")]}, [], patches=patches).complete
    found = sweep(ready, bind("p"), patches)
    assert not found.complete
    assert str(found).startswith("NOT FINISHED, so nothing more is proved: the weather is not modelled (p: ioctl(3, ")


# ---- a function that refuses what cannot be refused


async def refuses(device: Any) -> None:
    """A put that says no."""
    await refuse_if(True, Errno.EINVAL, "mine", "no")


def test_a_function_that_refuses_the_end_of_a_process_is_found_and_breaks_nothing() -> None:
    found = explore(ready, {"A": [bind("p")]}, [], patches={"vfio_device_put_kvm": refuses})
    assert (found.verdict, found.complete) == ("broken", True)
    (wrong,) = found.violations
    assert wrong.what.startswith("when every process ends: the end of a process is refused: [EINVAL] no (mine, ")


def test_a_room_of_the_museum_is_not_mended_by_a_function_that_refuses_the_end_of_a_process() -> None:
    room = ROOMS["failed-second-bind"]
    text = room.source("vfio_device_put_kvm")
    refused = text[: text.index(":\n") + 1] + '\n    await refuse_if(True, Errno.EINVAL, "mine", "no")\n'
    assert room.prove(room.mine(refused), first=True).refuted


# ---- an invariant of one's own


def never_bound(engine: Engine, df: VfioDeviceFile) -> Iterator[str]:
    """A rule that the first bind breaks."""
    if df.access_granted.value:
        yield f"{df.oid} is bound"


@pytest.mark.parametrize("at_rest", [False, True])
def test_an_invariant_of_ones_own_is_looked_at_whenever_it_has_to_hold(at_rest: bool) -> None:
    reads = ("vfio_device_file.access_granted",)
    rule = Invariant("never_bound", VfioDeviceFile, reads, lambda _: None, "", at_rest, never_bound)
    found = explore(ready, {"A": [bind("p")]}, [rule])
    assert found.verdict == "broken"
    shortest = found.counterexample
    assert shortest is not None
    assert shortest.what.endswith("vfio_device_file 1 is bound")
    assert shortest.machine.check() == ["vfio_device_file 1 is bound"]
    assert "# here belongs m.expect(…) with your own invariant never_bound" in shortest.code


# ---- what is no question


@pytest.mark.parametrize("seconds", [float("nan"), -1, "3"])
def test_seconds_that_limit_nothing_are_refused(seconds: Any) -> None:
    with pytest.raises(ValueError, match="seconds are a number of 0 or more, not"):
        explore(ready, {"A": [bind("p")]}, [], seconds=seconds)
    with pytest.raises(ValueError, match="seconds are a number of 0 or more, not"):
        sweep(ready, bind("p"), seconds=seconds)


@pytest.mark.parametrize("number", [0, -1, 1.5])
def test_a_number_of_schedules_in_which_nothing_can_be_done_is_refused(number: Any) -> None:
    with pytest.raises(ValueError, match="schedules are a whole number of 1 or more, not"):
        explore(ready, {"A": [bind("p")]}, [], schedules=number)


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        (Machine(), "a factory is a function that makes a machine, anew for every run, not <Machine"),
        (None, "a factory is a function that makes a machine, anew for every run, not None"),
        (lambda: None, "the factory must give back a Machine, and gives back None"),
    ],
    ids=["a machine", "None", "makes nothing"],
)
def test_what_makes_no_machines_is_refused(factory: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        explore(factory, {"A": [bind("p")]}, [])
    with pytest.raises(TypeError, match=told):
        sweep(factory, bind("p"))


def test_ctrl_c_while_the_package_is_loaded_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Pressing:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'vfiosim.machine':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Pressing())\n"
    )
    asked = [sys.executable, "-m", "vfiosim", "puzzles"]
    done = subprocess.run(
        asked, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")  # a shell says 130


def test_a_command_that_is_stopped_while_it_loads_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_arguments: Sequence[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("vfiosim.puzzles.command.explore_main", interrupted)
    assert main(["explore", "R1"]) == 130
    assert capsys.readouterr().err == "python -m vfiosim explore: stopped\n"


# ---- what a verdict says nothing about


def mapping_of_an_ioas() -> Machine:
    """A program with an IOAS, number 1, and memory at 64 KiB."""
    machine = Machine()
    p = machine.process("p")
    iommufd = p.open("/dev/iommu")
    p.ioctl(iommufd, uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc())
    p.memory.map(4096, address=0x10000)
    return machine


MAP_AND_DESTROY: dict[str, list[tuple[Any, ...]]] = {
    "A": [("p", "ioctl", 3, uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=1))],
    "B": [("p", "ioctl", 3, uapi.IOMMU_IOAS_MAP, uapi.IommuIoasMap(flags=6, ioas_id=1, user_va=0x10000, length=4096))],
}


def test_safe_where_a_wait_has_a_time_limit_says_that_its_time_was_not_let_run_out() -> None:
    told = explore(mapping_of_an_ioas, MAP_AND_DESTROY)
    assert told.verdict == "safe"
    assert told.not_looked_at.startswith("what happens when the time of a wait runs out")
    assert f"Not looked at: {told.not_looked_at}." in str(told)
    with_time = explore(mapping_of_an_ioas, MAP_AND_DESTROY, timeouts=1)
    assert with_time.verdict == "broken"
    assert with_time.not_looked_at == ""  # nobody waits a second time


def test_where_no_wait_has_a_time_limit_everything_was_looked_at() -> None:
    assert explore(ready, {"A": [bind("p")]}).not_looked_at == ""
