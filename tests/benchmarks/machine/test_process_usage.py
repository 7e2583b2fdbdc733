import sys
import threading
import time

import pytest

from benchmarks.machine.process_usage import CpuMeter, Footprint, footprint
from benchmarks.machine.system_files import SystemFiles


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_footprint_sees_threads_and_files(tmp_path):
    before = footprint()
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    with (tmp_path / "open").open("w"):
        during = footprint()
    done.set()
    thread.join()
    assert (during.threads, during.files) == (before.threads + 1, before.files + 1)
    assert 10 < before.memory_mb <= before.peak_mb


STATUS = "Name:\tpython\nVmPeak:\t 999999 kB\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\nThreads:\t5\n"


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (STATUS, Footprint(100.0, 5, 2, 200.0)),
        (STATUS.replace("VmHWM", "VmOther"), Footprint(100.0, 5, 2, None)),  # gVisor tells no peak
        (STATUS.replace("VmRSS", "VmOther"), None),
        ("", None),
        (None, None),
    ],
)
def test_footprint_is_as_the_kernel_tells(tmp_path, status, found):
    own = tmp_path / "self"
    (own / "fd").mkdir(parents=True)
    for name in "01":
        (own / "fd" / name).touch()
    if status is not None:
        (own / "status").write_text(status)
    assert footprint(SystemFiles(proc=tmp_path)) == found


def test_no_proc_is_not_told(tmp_path):
    assert footprint(SystemFiles(proc=tmp_path / "none")) is None


def test_cpu_time_of_all_threads_is_added_up_over_stretches_only(monkeypatch):
    cpu_ns, wall_ns = iter([0, 30, 1000, 1050]), iter([0, 20, 500, 520])
    monkeypatch.setattr(time, "process_time_ns", lambda: next(cpu_ns) * 1_000_000)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(wall_ns) * 1_000_000)
    meter = CpuMeter()
    for _ in range(2):
        with meter:
            pass
    use = meter.use(frames=4)
    assert use.percent == pytest.approx(200)  # 80 of 40 ms: two hardware threads busy
    assert use.ms_a_frame == pytest.approx(20)
