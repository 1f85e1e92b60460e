"""Real programs on a simulated machine: C, linked in both ways, Rust and Python."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from vfiosim import Machine, replay
from vfiosim.cli import main
from vfiosim.lab import programs
from vfiosim.run import CannotRun, ProgramRun, run
from vfiosim.run import filter as filter_module
from vfiosim.run.filter import abi, program
from vfiosim.topology import DeviceSpec, Hardware, Topology

ROOT = Path(__file__).parent.parent
HERE = ROOT / "tests" / "programs"
SECONDS = 60  # a program that hangs is a failure of ours

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells of system calls so"),
    pytest.mark.xdist_group("programs"),
]


def compiled(folder: Path, compiler: str, *words: str) -> str:
    """A program, by the compiler of this computer; the test is skipped where there is none."""
    found = shutil.which(compiler)
    if found is None:
        pytest.skip(f"there is no {compiler} on this computer, so its programs are not run")
    target = str(folder / "program")
    subprocess.run([found, *words, "-o", target], check=True)
    return target


@pytest.fixture(scope="session")
def vmm(tmp_path_factory) -> str:
    return compiled(tmp_path_factory.mktemp("c"), "cc", "-O1", "-Wall", "-Werror", str(HERE / "vmm.c"), "-pthread")


def ran(command: list[str], status: int = 0, **more) -> ProgramRun:
    """A run, which ends with this status and leaves the machine as it was."""
    result = run(["timeout", "-s", "KILL", str(SECONDS), *command], **more)
    assert result.returncode == status
    assert result.check() == []
    return result


def shown(result: ProgramRun) -> list[str]:
    return [str(call) for call in result.calls]


@pytest.mark.parametrize("name", ["pass", "maps", "hotplug", "interrupts", "pointers", "confined", "forked", "mapped"])
def test_a_c_program_finds_the_kernel_that_it_was_written_for(vmm, name):
    result = ran([vmm, name], machine=Machine(trace=False))
    assert result.left_behind == []


@pytest.fixture(scope="session")
def namespaces() -> None:
    if run(["true"], machine=Machine(trace=False), way="namespace", warn=lambda line: None).way != "namespace":
        pytest.skip("this computer lets no program have a mount namespace, so the other way is all that is tried")


def by_night(*names: object) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.nightly) for name in names]


@pytest.mark.parametrize("name", ["vmm", "pass", "hotplug", *by_night("pointers", "forked", "mapped", "maps")])
def test_a_program_makes_the_same_calls_in_both_ways_but_for_closes_that_its_end_follows_at_once(namespaces, vmm, name):
    both = [ran([vmm, name], machine=Machine(trace=False), way=way) for way in ("namespace", "redirect")]
    assert [result.way for result in both] == ["namespace", "redirect"]
    assert both[0].left_behind == both[1].left_behind
    told = [Counter(re.sub("0x7[0-9a-f]{11}", "ADDRESS", call) for call in shown(result)) for result in both]
    assert told[1] <= told[0]
    assert all(": close(" in call for call in told[0] - told[1])


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["interrupts", "timer", "confined"])
def test_with_redirected_paths_signals_filters_and_eventfds_are_the_hosts_affair(vmm, name):
    assert ran([vmm, name], machine=Machine(trace=False), way="redirect").left_behind == []


IN_NAMESPACE = [sys.executable, "-m", "vfiosim", "run", "--quiet", "--way", "namespace"]


@pytest.mark.nightly
def test_in_a_namespace_registers_are_no_memory_for_requests_and_nobody_waits_for_himself(namespaces, vmm):
    subprocess.run([*IN_NAMESPACE, vmm, "registers"], cwd=ROOT, timeout=SECONDS, check=True)


@pytest.mark.nightly
def test_in_a_namespace_a_run_that_is_broken_off_ends_also_where_the_program_waits_for_an_answer(namespaces):
    code = "import sys; from vfiosim.run import run; run(['cat', '/dev/iommu'], way='namespace', tell=lambda told: sys.exit(9))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=SECONDS, check=False).returncode == 9


@pytest.mark.parametrize("seed", [5, *by_night(*range(12, 20))])
def test_in_a_namespace_threads_that_open_take_nothing_from_each_other(namespaces, vmm, seed):
    warned: list[str] = []
    result = ran(
        [vmm, "threads", "40"], machine=Machine("lab", trace=False), way="namespace", seed=seed, warn=warned.append
    )
    assert warned == result.left_behind == []


def test_in_a_namespace_a_number_is_free_again_when_a_file_of_the_host_is_closed(namespaces):
    code = """
import os
os.open("/dev/iommu", 2)
file = os.open("/etc/passwd", 0)
os.pread(file, 1, 0)
os.close(file)
os.open("/dev/iommu", 2)
"""
    result = ran([sys.executable, "-S", "-c", code], machine=Machine(trace=False), way="namespace")
    assert [call.result for call in result.calls] == [3, 4]


@pytest.mark.nightly
def test_in_a_namespace_nodes_and_files_are_found_by_whatever_leads_to_them(namespaces, tmp_path):
    script = """
        set -e
        exec 3</dev/vfio/vfio
        test "$(stat -Lc %t:%T /proc/self/fd/3)" = a:c4
        test "$(stat -c %i%F /dev/vfio/vfio)" = "$(stat -Lc %i%F - <&3)"
        ln -s /dev/iommu link
        exec 4<>link
        cd /sys/bus/pci/devices/0000:01:00.0/driver
        echo 0000:01:00.0 > unbind
        ! test -e /dev/vfio/devices/vfio0
        ! test -e 0000:01:00.0
        cp /sys/bus/pci/devices/0000:01:00.0/vendor /dev/null
        find /dev/vfio /sys/bus/pci /sys/class/vfio-dev -ls
        test -c /dev/null
        ! touch /sys/bus/pci/mine
    """
    result = ran(["sh", "-c", script], machine=Machine(trace=False), way="namespace", cwd=tmp_path)
    assert "sh: open('/dev/iommu', O_RDWR|O_CREAT) = 4" in shown(result)


def test_a_program_has_a_namespace_of_its_own_where_it_can_and_its_opens_take_turns_where_a_seed_is_given(namespaces):
    assert run(["true"], machine=Machine(trace=False)).way == "namespace"
    assert run(["true"], machine=Machine(trace=False), seed=1).way == "redirect"


def test_a_computer_without_namespaces_has_paths_redirected_and_tells_whoever_asks(monkeypatch):
    monkeypatch.setattr("vfiosim.run.launch.FUSE", "/no/such/file")
    told: list[str] = []
    assert run(["true"], machine=Machine(trace=False), warn=told.append).way == "redirect"
    assert told == []
    assert run(["true"], machine=Machine(trace=False), warn=told.append, way="namespace").way == "redirect"
    assert len(told) == 1
    assert "there is no /no/such/file here; its paths are redirected" in told[0]
    with pytest.raises(ValueError, match="auto, namespace or redirect"):
        run(["true"], way="namespaces")


def test_a_vmm_is_brought_up_and_torn_down_with_the_numbers_that_linux_gives(vmm):
    result = ran([vmm, "vmm"])
    assert result.left_behind == []
    calls = shown(result)
    assert calls[0] == "program: open('/dev/iommu', O_RDWR) = 3"
    assert any("VFIO_DEVICE_GET_INFO" in call and "-1 EINVAL (" in call for call in calls)
    assert len(result.trace.calls) >= len(calls)


CLOSES = """
        import os
        a = os.open("/dev/iommu", 2); b = os.dup(a); c = os.open("/dev/vfio/devices/vfio0", 2)
        os.close(c); os.close(a); c = os.dup(b); os.closerange(b, b + 1); os.dup2(2, c); os.open("/dev/iommu", 2); os._exit(0)
    """


@pytest.mark.parametrize(
    ("way", "closed"),
    [("namespace", ["close(5)", "close(3)", "close(4)", "close(3)"]), ("redirect", ["close(5)", "close(3)"])],
)
def test_each_close_is_told_in_its_place_or_where_paths_are_redirected_that_of_the_last_copy(namespaces, way, closed):
    result = ran([sys.executable, "-c", dedent(CLOSES)], machine=Machine(trace=False), way=way)
    assert [call.shown.partition("'")[0] for call in result.calls[2:]] == [*closed, "open("]


@pytest.mark.parametrize("then", ["os._exit(0)", "os.execlp('true', 'true')"])
def test_in_a_namespace_a_close_is_told_also_where_the_end_follows_at_once_and_that_of_an_end_or_an_exec_is_none(
    namespaces, then
):
    code = f"import os; a, b = os.open('/dev/iommu', 2), os.open('/dev/iommu', 2); os.close(a); {then}"
    calls = shown(ran([sys.executable, "-c", code], machine=Machine(trace=False), way="namespace"))
    assert [call.partition(": ")[2] for call in calls[2:]] == ["close(3) = 0"]


@pytest.mark.parametrize("way", ["redirect", *by_night("namespace")])
def test_no_signal_keeps_a_descriptor_from_being_closed(namespaces, way):
    code = """
        import ctypes, os, signal
        close = ctypes.CDLL(None).close
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.siginterrupt(signal.SIGALRM, True)
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        os._exit(any(close(os.dup(0)) for _ in range(3000)))
    """
    ran([sys.executable, "-c", dedent(code)], machine=Machine(trace=False), way=way)


def test_a_static_program_runs_as_well(tmp_path):
    static = compiled(tmp_path, "cc", "-static", "-O1", str(HERE / "vmm.c"), "-pthread")
    assert ran([static, "vmm"], machine=Machine(trace=False)).left_behind == []


def test_a_rust_program_runs_as_well(tmp_path):
    program = compiled(tmp_path, "rustc", "-O", str(HERE / "vmm.rs"))
    result = ran([program], machine=Machine(trace=False))
    assert sum("VFIO_DEVICE_GET_INFO" in call for call in shown(result)) == 40


def test_a_python_program_runs_as_well():
    result = ran([sys.executable, str(HERE / "vmm.py")])
    assert "python: ioctl(3, VFIO_DEVICE_BIND_IOMMUFD, {iommufd=4}) = 0 {out_devid=1}" in shown(result)
    told = [step.sentence for step in result.trace][: result.telling_step]
    assert told[-1].startswith("The gate opens")
    assert sum("BIND_IOMMUFD" in sentence for sentence in told) == 1


def test_a_request_has_the_name_that_the_kernel_gives_its_number_which_answers():
    posted = run([sys.executable, str(HERE / "vmm.py")], kernel="v5", stderr=subprocess.DEVNULL)
    assert any("ioctl(3, 0x3b76 (VFIO_DEVICE_BIND_IOMMUFD in 7.2), " in call for call in shown(posted))
    code = (
        "import fcntl, os, struct; d = os.open('/dev/vfio/devices/vfio0', 2); i = os.open('/dev/iommu', 2)\n"
        "fcntl.ioctl(d, 0x3b77, struct.pack('<IIQiI', 24, 0, 0, i, 0))"
    )
    bound = run([sys.executable, "-c", code], kernel="v5")
    assert "ioctl(3, VFIO_DEVICE_BIND_IOMMUFD, {iommufd=4}) = 0 {out_devid=1}" in shown(bound)[2]
    fail = ["VFIO_DEVICE_BIND_IOMMUFD: ENOMEM"]
    failed = run([sys.executable, "-c", code], kernel="v5", fail=fail, stderr=subprocess.DEVNULL)
    assert failed.calls[2].errno == "ENOMEM"


def test_threads_use_a_device_each_at_the_same_time(vmm):
    result = ran([vmm, "threads"], machine=Machine("lab", trace=False))
    assert sum("VFIO_DEVICE_BIND_IOMMUFD" in call for call in shown(result)) == 20


@pytest.mark.parametrize("way", ["redirect", *by_night("namespace")])
def test_threads_take_turns_within_the_kernel_where_a_seed_is_given(vmm, way):
    m = Machine("lab")
    ran([vmm, "threads"], machine=m, seed=7, way=way)
    threads = [step.thread for step in m.trace.micro]
    assert sum(one != two for one, two in pairwise(threads)) > 2 * len(m.calls)


@pytest.mark.parametrize("way", ["redirect", "namespace"])
def test_a_program_that_is_killed_within_a_call_leaves_that_call_to_the_kernel(vmm, way):
    result = ran([vmm, "killed"], machine=Machine(trace=False), way=way)
    assert result.left_behind == ["the device 0000:01:00.0 is driven by nobody, before by vfio-pci"]


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0,
    reason="whoever is not root has no rights anyway, so all tests show this",
)
@pytest.mark.parametrize("way", ["redirect", "namespace"])
def test_a_user_without_rights_runs_programs_as_well(vmm, way):
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    reads = "--inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search"  # where this interpreter may be root's alone
    words = [
        *nobody.split(),
        *reads.split(),
        sys.executable,
        "-m",
        "vfiosim",
        "run",
        "--quiet",
        "--check",
        "--way",
        way,
        vmm,
        "vmm",
    ]
    subprocess.run(words, cwd=ROOT, timeout=SECONDS, check=True)


def test_a_descriptor_takes_no_number_that_another_thread_has_got_meanwhile(vmm):
    assert ran([vmm, "numbers"], machine=Machine(trace=False), way="redirect").left_behind == []


def test_a_signal_that_interrupts_a_call_does_not_repeat_it(vmm, capfd):
    result = ran([vmm, "timer"], machine=Machine(trace=False))
    asked = int(capfd.readouterr().out)
    assert asked >= 50
    assert sum("VFIO_DEVICE_GET_INFO" in call for call in shown(result)) == asked


def test_what_a_child_still_has_open_is_left_behind(vmm):
    result = ran([vmm, "leak"])
    assert len(result.left_behind) == 1
    assert "still has vfio0" in result.left_behind[0]


def test_a_request_fails_on_demand_and_the_program_sees_the_errno(vmm, capfd):
    result = run([vmm, "vmm"], fail=["VFIO_DEVICE_BIND_IOMMUFD: ENOMEM"])
    assert result.returncode == 1
    assert "Cannot allocate memory" in capfd.readouterr().err
    assert result.not_failed == []
    assert result.trace[result.telling_step - 1].refused == "ENOMEM"
    assert result.check() == []
    assert run([vmm, "vmm"], fail=["VFIO_DEVICE_GET_INFO: ENOMEM"]).not_failed == [
        "nothing in VFIO_DEVICE_GET_INFO could fail with ENOMEM; here it can with EFAULT"
    ]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("BIND", "REQUEST"),
        ("BIND: ENOMEM", "is it VFIO_DEVICE_BIND_IOMMUFD?"),
        ("vfio_device_bind: ENOMEM", "is it VFIO_DEVICE_BIND_IOMMUFD?"),
        ("IOMMU_IOAS_MPA: ENOMEM", "is it IOMMU_IOAS_MAP or"),
        ("open: ENOMME", "is it ENOMEM"),
        ("open: EWHAT", "there is no errno"),
    ],
)
def test_what_cannot_fail_is_refused_before_the_program_starts_and_what_may_be_meant_is_named(wrong, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        run(["true"], fail=[wrong])


def test_what_is_not_modelled_is_told_and_the_program_goes_on():
    told: list[str] = []
    code = (
        "import fcntl, os\nv = fcntl.ioctl(os.open('/dev/kvm', 2), 0xae01)\nfcntl.ioctl(fcntl.ioctl(v, 0xae41), 0xae80)"
    )
    result = run([sys.executable, "-c", code], machine=Machine(trace=False), warn=told.append)
    assert result.returncode == 1
    assert len(told) == 1
    assert "ENOSYS" in told[0]


PASID = """
import fcntl, os
from vfiosim import uapi

def asked(name, **fields):
    it = uapi.REQUESTS[name].struct(**{key: value for key, value in fields.items() if "__" not in key})
    it.size = len(bytes(it))
    for key in fields:
        part, _, field = key.partition("__")
        field and setattr(getattr(it, part), field, fields[key])
    fcntl.ioctl(iommufd, uapi.REQUESTS[name].number, it)
    return it

iommufd = os.open("/dev/iommu", os.O_RDWR)
ioas = asked("IOMMU_IOAS_ALLOC").out_ioas_id
flags = uapi.MOCK_FLAGS_DEVICE_PASID
made = asked("IOMMU_TEST_CMD", op=uapi.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, id=ioas, mock_domain_flags__dev_flags=flags)
dev, card = made.mock_domain_flags.out_idev_id, made.mock_domain_flags.out_stdev_id
table = asked("IOMMU_HWPT_ALLOC", flags=uapi.IOMMU_HWPT_ALLOC_PASID, dev_id=dev, pt_id=ioas).out_hwpt_id
asked("IOMMU_TEST_CMD", op=uapi.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, id=card, mock_domain_replace__pt_id=table)
asked("IOMMU_TEST_CMD", op=uapi.IOMMU_TEST_OP_PASID_ATTACH, id=card, pasid_attach__pasid=1, pasid_attach__pt_id=table)
"""


def test_an_end_that_is_not_modelled_is_told_and_the_run_is_over_all_the_same():
    warned: list[str] = []
    result = run([sys.executable, "-c", PASID], machine=Machine(trace=False), warn=warned.append, cwd=ROOT)
    assert result.returncode == 0
    assert any("{op=18, id=2, pasid_attach.pasid=1, pasid_attach.pt_id=5})" in call for call in shown(result))
    told = "python has ended: a mock device that goes while PASIDs of it are attached is not modelled"
    assert [line.partition(";")[0] for line in warned] == [told]


# ---- the command


def test_the_command_ends_as_the_program_does_and_tells_each_call(vmm, capfd, tmp_path):
    page = tmp_path / "run.html"
    assert main(["run", "--check", "--page", str(page), "--", vmm, "vmm"]) == 0
    told = capfd.readouterr().err
    assert "VFIO_DEVICE_BIND_IOMMUFD, {iommufd=3}) = 0 {out_devid=1}\n" in told
    assert told.endswith("\nvfiosim: nothing is left behind, no invariant is broken\n")
    text = page.read_text(encoding="utf-8")
    assert "VFIO_DEVICE_BIND_IOMMUFD" in text
    assert 'data-step="0"' not in text
    assert main(["run", "--", "sh", "-c", "exit 5"]) == 5
    assert main(["run", "--", "sh", "-c", "kill -9 $$"]) == 128 + 9
    assert main(["run", "--", "/no/such/program"]) == 127
    assert "/no/such/program: No such file or directory" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "--page", str(tmp_path / "none" / "run.html"), "--", "sh", "-c", "echo it has run >&2"])
    told = capfd.readouterr().err
    assert "run.html cannot be written: No such file or directory" in told
    assert "it has run" not in told


@pytest.mark.parametrize("name", ["vmm", "pass", "forked"])
def test_a_run_that_is_saved_is_done_again_by_conformance_and_replay(vmm, tmp_path, capfd, name):
    saved = tmp_path / "run.json"
    assert main(["run", "--quiet", "--save", str(saved), vmm, name]) == 0
    assert main(["conformance", str(saved)]) == 0
    assert "1 scenarios" in capfd.readouterr().out
    assert "VFIO_DEVICE_BIND_IOMMUFD" in str(replay(str(saved)))
    data = json.loads(saved.read_text("utf-8"))
    bind = next(n for n, step in enumerate(data["scenarios"][0]["steps"]) if "BIND" in step.get("request", ""))
    data["scenarios"][0]["result"]["steps"][bind]["errno"] = "ENOMEM"
    saved.write_text(json.dumps(data), "utf-8")
    assert main(["conformance", str(saved)]) == 1


def test_a_run_that_its_calls_alone_do_not_make_again_is_not_saved_and_it_is_told_why(vmm, tmp_path, capfd):
    saved = tmp_path / "run.json"
    assert main(["run", "--quiet", "--save", str(saved), "--fail", "IOMMU_IOAS_MAP: ENOMEM", vmm, "vmm"]) == 1
    assert "this run cannot be saved: ioctl(3, IOMMU_IOAS_MAP" in capfd.readouterr().err
    with pytest.raises(ValueError, match="is not a recording"):
        replay(str(saved))
    run(["true"], machine=Machine("lab", "v6.6"), save=saved, warn=(told := list[str]()).append)
    assert told == ["this run cannot be saved: a recording is one of Linux 7.2, not of v6.6"]


def test_the_command_ends_with_70_where_something_is_left_behind(vmm, capfd):
    assert main(["run", "--quiet", "--check", vmm, "killed"]) == 70
    assert capfd.readouterr().err == "vfiosim: the device 0000:01:00.0 is driven by nobody, before by vfio-pci\n"


@pytest.mark.parametrize("fail", ["VFIO_DEVICE_GET_INFO: ENOMEM", "open#99: ENOMEM", "IOMMU_DESTROY: EBUSY"])
def test_the_command_ends_with_70_where_what_was_to_fail_did_not(vmm, capfd, fail):
    assert main(["run", "--quiet", "--check", "--fail", fail, vmm, "vmm"]) == 70
    assert "what was to fail did not" in capfd.readouterr().err
    assert main(["run", "--quiet", "--fail", fail, vmm, "vmm"]) == 0


def test_a_shell_binds_and_unbinds_and_sees_what_comes_of_it():
    script = """
        set -e
        cd /sys/bus/pci/drivers 2>/dev/null || cd /
        echo 0000:01:00.0 > /sys/bus/pci/drivers/vfio-pci/unbind
        test ! -e /dev/vfio/devices/vfio0
        ! echo 0000:99:00.0 > /sys/bus/pci/drivers/vfio-pci/bind
        echo 0000:01:00.0 > /sys/bus/pci/drivers/vfio-pci/bind
        test -c /dev/vfio/devices/vfio0
        test $(ls /sys/bus/pci/devices | wc -l) = 5
    """
    result = ran(["sh", "-c", script], machine=Machine(trace=False))
    assert any("ENODEV (there is no device '0000:99:00.0" in call for call in shown(result))


@pytest.mark.parametrize("way", ["redirect", "namespace"])
def test_files_of_sys_tell_what_is_so_when_they_are_read(way, capfd):
    script = """
        D=/sys/bus/pci/devices/0000:01:00.0
        cat $D/vendor $D/class $D/driver_override
        echo > $D/driver_override; cat $D/driver_override; echo vfio-pci > $D/driver_override; cat $D/driver_override
        test -d $D/ -a -h $D && ls -ld $D/ | cut -c1
        (: > /sys/bus/pci/new) 2>&1 | grep -o Perm.*
    """
    ran(["sh", "-c", script], machine=Machine(trace=False), way=way)
    told = ["0x1234", "0x00ff00", "vfio-pci", "(null)", "vfio-pci", "d", "Permission denied"]
    assert capfd.readouterr().out.split("\n") == [*told, ""]


OWN = Hardware({0: 0x2000, 2: 0x100000}, wide=(2,), ids=(0x8086, 0x1521, 0x8086, 1, 0x020000), msi=4)


def test_a_device_of_ones_own_is_what_its_hardware_says_and_its_registers_are_memory():
    topology = Topology("mine", (DeviceSpec("nic", "0000:01:00.0", 1, hardware=OWN),))
    code = """
        import fcntl, os, struct
        d, i = os.open("/dev/vfio/devices/vfio0", 2), os.open("/dev/iommu", 2)
        fcntl.ioctl(d, 0x3b76, struct.pack("<IIiI", 16, 0, i, 0))
        size = [struct.unpack("<16xQ8x", fcntl.ioctl(d, 0x3b6c, struct.pack("<4I16x", 32, 0, n, 0)))[0] for n in range(3)]
        assert size == [0x2000, 0, 0x100000]
        assert struct.unpack("<12xI", fcntl.ioctl(d, 0x3b6d, struct.pack("<4I", 16, 0, 1, 0))) == (4,)
        assert os.pwrite(d, b"Linux", (2 << 40) + 4093) == 5 and os.pread(d, 6, (2 << 40) + 4092) == b"\\0Linux"
        assert os.pread(d, 4, 7 << 40) == b"\\x86\\x80\\x21\\x15"
        assert open("/sys/bus/pci/devices/0000:01:00.0/class").read() == "0x020000\\n"
    """
    assert ran([sys.executable, "-c", dedent(code)], machine=Machine(topology, trace=False)).left_behind == []


@pytest.mark.parametrize("way", ["redirect", "namespace"])
def test_reads_and_writes_without_an_offset_reach_the_device_too(way):
    code = """
        import fcntl, os, struct
        d, i = os.open("/dev/vfio/devices/vfio0", 2), os.open("/dev/iommu", 2)
        fcntl.ioctl(d, 0x3b76, struct.pack("<IIiI", 16, 0, i, 0))
        assert os.write(d, b"abcd") == 4 and os.writev(d, [b"efgh"]) == 4 and os.pread(d, 8, 0) == b"abcdefgh"
        part = bytearray(2)
        e = os.dup(d)
        assert os.pwrite(d, b"12345678", 8) == 8 and os.read(e, 4) == b"1234" and os.readv(d, [part]) == 2 and part == b"56"
        try:
            os.read(i, 4)
        except OSError as error:
            os._exit(error.errno)
    """
    topology = Topology("mine", (DeviceSpec("nic", "0000:01:00.0", 1, hardware=OWN),))
    ran([sys.executable, "-c", dedent(code)], status=errno.EINVAL, machine=Machine(topology, trace=False), way=way)


REOPENS = """
import errno, fcntl, os, struct
first = os.open("/dev/iommu", 2)
try:
    second = os.open(f"/proc/self/fd/{first}", 2)
except OSError as error:
    assert error.errno == errno.ENXIO
    second = os.open("/dev/iommu", 2)
for fd in (first, second):
    assert fcntl.ioctl(fd, 0x3b81, struct.pack("<3I", 12, 0, 0))[8] == 1
"""


QUEUE = """
import errno, os, select
from ctypes import c_uint64
{asks}
iommufd = os.open("/dev/iommu", os.O_RDWR)
ioas = asked("IOMMU_IOAS_ALLOC").out_ioas_id
made = asked("IOMMU_TEST_CMD", op=uapi.IOMMU_TEST_OP_MOCK_DOMAIN, id=ioas).mock_domain
queue = asked("IOMMU_FAULT_QUEUE_ALLOC")
fault = queue.out_fault_fd
parent = asked("IOMMU_HWPT_ALLOC", flags=uapi.IOMMU_HWPT_ALLOC_NEST_PARENT, dev_id=made.out_idev_id, pt_id=ioas).out_hwpt_id
data = c_uint64(0)
from ctypes import addressof
nested = asked("IOMMU_HWPT_ALLOC", flags=uapi.IOMMU_HWPT_FAULT_ID_VALID, dev_id=made.out_idev_id, pt_id=parent,
               data_type=0xdead, data_len=8, data_uptr=addressof(data), fault_id=queue.out_fault_id).out_hwpt_id
asked("IOMMU_TEST_CMD", op=uapi.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, id=made.out_stdev_id, mock_domain_replace__pt_id=nested)
poll = select.poll()
poll.register(fault, select.POLLIN)
assert poll.poll(0) == [] and os.read(fault, 40) == b""
if os.fork():
    assert poll.poll() == [(fault, select.POLLIN)]
    os.wait()
else:
    asked("IOMMU_TEST_CMD", op=uapi.IOMMU_TEST_OP_TRIGGER_IOPF, trigger_iopf__dev_id=made.out_idev_id, trigger_iopf__grpid=1)
    os._exit(0)
event = os.read(fault, 4000)
assert len(event) == 40 and poll.poll(0) == []
assert os.write(fault, event[36:40] + b"\\0" * 4) == 8
try:
    os.read(fault, 8)
except OSError as error:
    os._exit(error.errno)
"""


@pytest.mark.parametrize("way", ["redirect", "namespace"])
def test_a_queue_is_polled_read_and_answered(way):
    asks = PASID.partition("iommufd =")[0]
    code = QUEUE.format(asks=asks)
    ran([sys.executable, "-c", code], status=errno.ESPIPE, machine=Machine(trace=False), way=way, cwd=ROOT)


VIOMMU = """
import mmap, sys
{asks}
from ctypes import addressof
iommufd = os.open("/dev/iommu", os.O_RDWR)
ioas = asked("IOMMU_IOAS_ALLOC").out_ioas_id
made = asked("IOMMU_TEST_CMD", op=uapi.IOMMU_TEST_OP_MOCK_DOMAIN, id=ioas).mock_domain
parent = asked("IOMMU_HWPT_ALLOC", flags=uapi.IOMMU_HWPT_ALLOC_NEST_PARENT, dev_id=made.out_idev_id, pt_id=ioas).out_hwpt_id
data = uapi.STRUCTS["iommu_viommu_selftest"](in_data=0xbeef)
viommu = asked("IOMMU_VIOMMU_ALLOC", type=0xdeadbeef, dev_id=made.out_idev_id, hwpt_id=parent, data_len=len(bytes(data)),
               data_uptr=addressof(data)).out_viommu_id
page = mmap.mmap(iommufd, data.out_mmap_length, offset=data.out_mmap_offset)
assert page[:4] == b"\\xef\\xbe\\0\\0"
queue = asked("IOMMU_VEVENTQ_ALLOC", viommu_id=viommu, type=uapi.IOMMU_VEVENTQ_TYPE_SELFTEST, veventq_depth=2).out_veventq_fd
try:
    sys.exit(len(os.read(queue, 0)))
except OSError as error:
    sys.exit(error.errno)
"""


@pytest.mark.parametrize("way", ["redirect", "namespace"])
def test_a_page_of_a_viommu_is_mapped_with_what_is_in_it_and_a_read_of_no_bytes_asks_its_queue(way):
    code = VIOMMU.format(asks=PASID.partition("iommufd =")[0])
    ran([sys.executable, "-c", code], status=errno.EINVAL, machine=Machine(trace=False), way=way, cwd=ROOT)


@pytest.mark.parametrize(("way", "told"), [("redirect", []), ("namespace", ["opening /dev/iommu once more"])])
def test_a_node_that_is_opened_by_its_descriptor_is_another_file_or_none(way, told):
    warned: list[str] = []
    ran([sys.executable, "-c", REOPENS], machine=Machine(trace=False), way=way, warn=warned.append)
    assert [text in line for text, line in zip(told, warned, strict=True)] == [True] * len(told)


def test_a_ring_reads_what_a_call_would_read_and_is_refused_where_nobody_would_see_it(namespaces, tmp_path):
    ring = compiled(tmp_path, "cc", "-O1", str(HERE / "ring.c"))
    warned: list[str] = []
    ran([ring], machine=Machine(trace=False), way="namespace", warn=warned.append)
    assert warned == []
    ran([ring], status=errno.ENOSYS, machine=Machine(trace=False), way="redirect", warn=warned.append)
    assert len(warned) == 1


# ---- where it cannot be


def test_a_program_that_runs_for_longer_than_it_is_given_is_killed_with_all_that_it_has_started(capfd):
    assert main(["run", "--timeout", "0.2", "--", "sh", "-c", "sleep 600 & echo $!; wait"]) == 124
    told = capfd.readouterr()
    assert told.err == "vfiosim: the program was killed after 0.2 seconds\n"
    assert ends(int(told.out))


def ends(pid: int) -> bool:
    """A process that was killed may still need a processor to end on."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text("ascii").split()[2] in "ZX":
                return True
        except OSError:
            return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_nothing_on_this_computer(number):
    script = "exec 3</sys/bus/pci; readlink /proc/self/fd/3; exec cat"
    words = [sys.executable, "-m", "vfiosim", "run", "--way", "redirect", "--", "sh", "-c", script]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        served = Path(running.stdout.readline().decode().strip())
        assert served.is_dir()
        running.send_signal(number)
        assert running.wait(SECONDS) == (128 + number if number == signal.SIGTERM else -number)
    if number == signal.SIGKILL:  # whoever runs something next tidies up
        run(["true"], machine=Machine(trace=False))
    assert not served.parents[2].exists()


def test_another_system_is_told_in_one_sentence_that_it_runs_no_programs():
    code = """
        import platform, sys
        platform.system = lambda: "Windows"
        sys.modules["fcntl"] = sys.modules["resource"] = None
        from vfiosim.cli import main
        from vfiosim.lab.programs import vfio_c
        vfio_c("", "int main() {}")
        sys.exit(main(["run", "--", "true"]))
    """
    done = subprocess.run([sys.executable, "-c", dedent(code)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stdout == done.stderr.removeprefix("vfiosim: ")
    assert "programs run on Linux on x86_64 and aarch64, and this is Windows" in done.stdout


def test_a_processor_that_is_not_known_is_told_in_one_sentence(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(CannotRun, match="and this is Linux on riscv64"):
        run(["true"])


def test_the_filter_lets_the_calls_of_another_processor_through():
    code = program(abi(), ["ioctl"])
    arch = abi().arch.to_bytes(4, "little")
    assert code[:8] == bytes.fromhex("2000000004000000")
    assert code[8:16] == b"\x15\0\1\0" + arch
    assert code[16:24] == bytes.fromhex("060000000000ff7f")


# ---- in a notebook, and in the test of somebody else


@pytest.fixture
def magic():
    shell: Any = InteractiveShell()
    shell.extension_manager.load_extension("vfiosim.lab.programs")
    return shell.run_cell_magic


def test_a_c_program_in_a_cell_has_its_player_below(magic, vmm, capsys):
    player = magic("vfio_c", "--machine lab vmm", (HERE / "vmm.c").read_text())
    assert "VFIO_DEVICE_BIND_IOMMUFD" in player.html()
    told = capsys.readouterr().out
    assert "-1 EINVAL (" in told
    assert told.endswith("It ended with 0.\n")


def test_a_part_that_a_cell_keeps_is_found_by_a_later_one_and_what_is_wrong_with_it_is_said_at_once(magic, capsys):
    assert magic("vfio_c", "--keep number.h", "static int number(void) { return y; }") is None
    assert "undeclared" in capsys.readouterr().out
    magic("vfio_c", "--keep node.h", '#include <fcntl.h>\nstatic int node(void) { return open("/dev/iommu", O_RDWR); }')
    assert magic("vfio_c", "", '#include "node.h"\nint main() { return node() + 4; }') is not None
    assert (
        capsys.readouterr().out
        == "node.h is kept.\nvmm: open('/dev/iommu', O_RDWR) = 3\nNothing is left behind.\nIt ended with 7.\n"
    )


def test_what_a_compiler_says_stands_below_the_cell(magic, vmm, capsys):
    magic("vfio_c", "", "int main(void) { return *(volatile int *)0; }")
    assert capsys.readouterr().out.endswith("It ended by SIGSEGV.\n")
    assert programs.ended
    assert magic("vfio_c", "", "int main() { return x; }") is None
    told = capsys.readouterr().out  # in a notebook the magic is line 1 of its cell
    assert "vmm.c:2:" in told
    assert "undeclared" in told
    assert not programs.ended  # what was run before is not what stands in the cell


def test_a_computer_without_a_compiler_is_told_in_one_sentence(magic, monkeypatch, capsys):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert magic("vfio_c", "", "int main() {}") is None
    assert capsys.readouterr().out.startswith("There is no C compiler on this computer")


def test_a_python_program_in_a_cell_fails_where_it_is_told_to(magic, capsys):
    assert magic("vfio_python", '--fail "open: EWHAT"', "pass") is None
    assert "there is no errno 'EWHAT'" in capsys.readouterr().out
    magic("vfio_python", '--fail "VFIO_DEVICE_BIND_IOMMUFD: ENOMEM"', (HERE / "vmm.py").read_text())
    assert "ENOMEM (made to fail on purpose" in capsys.readouterr().out


ENDLESS = "import os, signal\n{}\nwhile True: {}"


@pytest.mark.parametrize(
    ("line", "first", "again", "told"),
    [
        ("", "os.kill(os.getppid(), signal.SIGINT)", "pass", "It was interrupted."),
        ("--timeout 0.1", "", "pass", "It was stopped after 0.1 seconds; --timeout gives it more."),
        ("", "", "os.close(os.open('/dev/iommu', 2))", "It was stopped after 30 calls."),
    ],
)
def test_a_program_without_an_end_is_stopped_and_what_it_has_done_is_shown(
    magic, monkeypatch, capsys, line, first, again, told
):
    monkeypatch.setattr(programs, "PATIENCE", 0)
    monkeypatch.setattr(programs, "ENDLESS", 30)
    before = signal.getsignal(signal.SIGINT)
    assert magic("vfio_python", line, ENDLESS.format(first, again)) is not None
    lines = capsys.readouterr().out.splitlines()
    assert "The program still runs. ■ (interrupt the kernel) stops it." in lines
    assert lines[-2:] == ["It ended by SIGKILL.", told]
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_no_python_is_not_run_and_what_was_run_before_is_not_judged_for_it(magic, capsys):
    magic("vfio_python", "", "pass")
    assert programs.ended
    assert magic("vfio_python", "", "x = (\n") is None
    assert 'program.py", line 2' in capsys.readouterr().out  # the magic is line 1 of its cell
    assert not programs.ended
    magic("vfio_python", "", "pass")
    assert magic("vfio_python", "--timeout soon", "pass") is None
    assert "--timeout: invalid float value: 'soon'" in capsys.readouterr().out
    assert not programs.ended


def test_of_many_calls_a_cell_tells_those_that_were_refused_and_of_very_many_it_draws_none(magic, monkeypatch, capsys):
    asks = (
        "import fcntl, os\ni = os.open('/dev/iommu', 2)\nfor _ in range(30):\n"
        "  try: fcntl.ioctl(i, 0x3b81)\n  except OSError: pass"
    )
    magic("vfio_python", "", asks + "\nos._exit(0)")
    told = capsys.readouterr().out
    assert "open(" not in told
    monkeypatch.setattr(programs, "DRAWN", 30)
    assert magic("vfio_python", "", asks + "\nos._exit(0)") is None
    assert capsys.readouterr().out.endswith("These are too many calls for a picture: up to 30 are drawn.\n")
    assert told.count("-1 EFAULT (") == 30
    assert told.endswith(" calls; told are those that were refused.\nNothing is left behind.\nIt ended with 0.\n")


def test_the_documented_fixture_works_as_it_is_written(vmm, tmp_path):
    text = Path(filter_module.__file__).with_name("README.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0].replace('"./my_vmm"', f'"{vmm}", "vmm"')
    (tmp_path / "test_it.py").write_text(example, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0


# ---- programs of others


QEMU = shutil.which(os.environ.get("QEMU", "qemu-system-x86_64"))
MONITOR = (
    "sleep 3; echo info pci; echo device_add vfio-pci,host=0000:01:00.0,id=hot{}; sleep 3; echo info pci; echo quit"
)


@pytest.mark.nightly
@pytest.mark.skipif(QEMU is None, reason="there is no QEMU on this computer, so it is not run")
@pytest.mark.parametrize("way", ["redirect", "namespace"])
def test_qemu_takes_a_device_when_it_starts_and_one_that_is_plugged_in_later(way):
    objects = subprocess.run([str(QEMU), "-object", "help"], capture_output=True, text=True, check=True).stdout
    by, create = (",iommufd=i", "-object iommufd,id=i") if "iommufd" in objects else ("", "")
    quiet = f"{QEMU} -accel tcg -m 64 -display none -nodefaults -monitor stdio"
    qemu = f"{quiet} {create} -device vfio-pci,host=0000:00:04.0,id=cold{by}"
    result = ran(["sh", "-c", f"({MONITOR.format(by)}) | {qemu}"], machine=Machine("lab", trace=False), way=way)
    takes = "VFIO_DEVICE_ATTACH_IOMMUFD_PT" if by else "VFIO_GROUP_GET_DEVICE_FD"
    assert sum(takes in call.shown and not call.errno for call in result.calls) == 2
    assert result.left_behind == []
