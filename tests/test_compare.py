"""Two runs side by side, the numbers of steps, and what a live player leaves behind, as claims."""

from __future__ import annotations

import pytest

from tests.traces import bind, keys
from vfiosim import Machine, uapi
from vfiosim.trace import Trace
from vfiosim.views import Comparison, compare, live, show

# ---- two runs


def refused_bind() -> Trace:
    machine = Machine()
    vmm = machine.process("vmm")
    device, group = vmm.open("/dev/vfio/devices/vfio0"), vmm.open("/dev/iommu")
    with pytest.raises(uapi.KernelError):
        vmm.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=group, flags=2))
    return machine.trace[machine.trace.calls[-1].steps]


def test_two_runs_side_by_side_begin_at_the_last_step_that_they_share():
    pair = compare(bind(), refused_bind())
    assert isinstance(pair, Comparison)
    assert (pair.left.step, pair.right.step) == (pair.shared, pair.shared)
    assert 0 < pair.shared < len(refused_bind())
    assert bind()[pair.shared].sentence != refused_bind()[pair.shared].sentence
    assert str(pair).startswith(f"The same up to step {pair.shared}; then they differ.")


def test_two_equal_runs_are_said_to_be_equal_in_one_line():
    assert str(compare(bind(), bind())) == f"The two runs are the same in all {len(bind())} steps."


def test_two_runs_that_share_nothing_are_said_to_differ_from_the_start():
    assert str(compare(bind(), keys())).startswith("They differ from step 1 on.")


def test_two_runs_are_two_players_in_one_page():
    html = compare(bind(), refused_bind())._repr_mimebundle_()["text/html"]
    assert html.count("new DecompressionStream(") == 2


# ---- numbers of steps


def test_below_zero_steps_count_from_the_end():
    trace = bind()
    assert [show(trace, step=step).step for step in (0, 1, -1, -5)] == [0, 1, len(trace), len(trace) - 4]


def test_a_step_that_is_not_there_is_refused_on_both_sides():
    for step in (len(bind()) + 1, -len(bind()) - 2):
        with pytest.raises(IndexError, match=f"there is no step {step}; this trace has {len(bind())}"):
            show(bind(), step=step)


# ---- without widgets


def test_a_live_player_leaves_a_player_behind_that_needs_no_widgets():
    bundle = live(bind())._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert {"application/vnd.jupyter.widget-view+json", "text/html", "image/svg+xml"} <= set(data)
    assert "new DecompressionStream(" in data["text/html"]
    assert data["text/plain"] == str(show(bind()))
