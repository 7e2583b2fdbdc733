"""What psutil tells, by a psutil of our own; one that is missing, or tells nothing, is not guessed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from collections import namedtuple
from types import SimpleNamespace

import pytest

from benchmarks.machine import usage
from benchmarks.machine.usage import (
    CpuMeter,
    CpuShares,
    CpuTimes,
    Footprint,
    clocks_mhz,
    cpu_times,
    footprint,
    load_average,
    memory_mb,
    shares,
    steal_since_boot_percent,
    temperature,
)

Times = namedtuple("Times", "user nice system idle iowait irq softirq steal guest guest_nice")
Reading = namedtuple("Reading", "label current high critical")
Clock = namedtuple("Clock", "current min max")


@pytest.fixture
def told(monkeypatch):
    """Stand in for psutil: `told(cpu_times=lambda: …)`."""

    def tell(**functions):
        monkeypatch.setattr(usage, "psutil", SimpleNamespace(Error=RuntimeError, **functions))

    return tell


def test_others_and_the_host_are_told_from_us(told, monkeypatch):
    own_s = iter([4.0, 9.0, 9.0])
    monkeypatch.setattr(time, "process_time", lambda: next(own_s))
    told(cpu_times=lambda: Times(10, 0, 0, 20, 0, 0, 0, 0.5, 7, 0))  # the guest's is in the user's already
    before = cpu_times()
    told(cpu_times=lambda: Times(17, 0, 0, 20, 2, 0, 0, 1.5, 9, 0))
    assert before == CpuTimes(total_s=30.5, busy_s=10.0, steal_s=0.5, own_s=4.0)
    # 10 s of all hardware threads: 7 busy, of which 5 were ours, and 1 stolen.
    assert shares(before, cpu_times()) == CpuShares(
        steal_percent=pytest.approx(10), others_percent=pytest.approx(20)
    )
    assert steal_since_boot_percent() == pytest.approx(100 * 1.5 / 40.5)


def test_no_time_between_two_readings_tells_nothing():
    times = CpuTimes(10, 5, 0, 1)
    assert shares(times, times) is None
    assert shares(None, times) is None


def test_load_average_needs_no_psutil(monkeypatch):
    monkeypatch.setattr(usage, "psutil", None)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 1.25, 2.0))
    assert load_average() == (0.5, 1.25, 2.0)


@pytest.mark.parametrize(
    ("sensors", "words"),
    [
        ({"cpu_thermal": [48.312]}, "48.3 °C (cpu_thermal)"),
        ({"nvme": [90.0], "k10temp": [61.0, 64.5]}, "64.5 °C (k10temp)"),
        ({"acpitz": [30.0]}, "30.0 °C (acpitz)"),
        ({"coretemp": [-274.0]}, "None"),  # not connected
        ({}, "None"),
    ],
)
def test_the_hottest_sensor_of_the_processor(told, sensors, words):
    readings = {chip: [Reading("", value, None, None) for value in all_] for chip, all_ in sensors.items()}
    told(sensors_temperatures=lambda: readings)
    assert str(temperature()) == words


def test_the_clock_of_the_fastest_hardware_thread(told):
    told(cpu_freq=lambda percpu: [Clock(1800.0, 600.0, 2400.0), Clock(2400.0, 600.0, 3600.0)])
    assert clocks_mhz() == (2400.0, 3600.0)
    told(cpu_freq=lambda percpu: [Clock(2596.1, 0.0, 0.0)])  # a virtual machine knows no highest
    assert clocks_mhz() == (2596.1, None)


def raising(error):
    def read(*_, **__):
        raise error

    return read


@pytest.mark.parametrize("error", [OSError("gone"), NotImplementedError("not here"), ValueError("damaged")])
def test_what_the_system_does_not_tell_is_none(told, error):
    names = ("cpu_times", "cpu_freq", "sensors_temperatures", "virtual_memory", "Process")
    told(**dict.fromkeys(names, raising(error)))
    assert (cpu_times(), temperature(), memory_mb(), footprint()) == (None,) * 4
    assert clocks_mhz() == (None, None)
    told()  # a system for which psutil has no such function
    assert (cpu_times(), temperature(), memory_mb(), footprint()) == (None,) * 4


def test_without_psutil_nothing_is_told_and_everything_can_be_imported():
    code = (
        "import sys; sys.modules['psutil'] = None\n"
        "from benchmarks.machine.usage import MISSING\n"
        "from benchmarks.machine.description import this_machine\n"
        "import benchmarks.latency, benchmarks.report, benchmarks.stream, benchmarks.soak\n"
        "machine = this_machine()\n"
        "assert (machine.memory_mb, machine.temperature, machine.clock_mhz) == (None, None, None)\n"
        "assert machine.steal_percent is None\n"
        "assert MISSING in machine.facts().values()\n"
        "assert machine.facts()['memory'] == 'unknown'\n"
        "assert 'psutil not installed' in str(machine)\n"
        "assert machine.cpu and machine.cpus"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_was_freed_is_not_held():
    before = footprint()
    blocks = [bytes(1000) for _ in range(60_000)]  # too small to have pages of their own
    pins = blocks[:: len(blocks) // 100]
    during = footprint()
    del blocks
    after = footprint()
    assert during.memory_mb - before.memory_mb > 50
    assert after.memory_mb - before.memory_mb < 10
    assert len(pins) == 100  # which kept the heap from shrinking at its end


def test_footprint_sees_threads_and_files(tmp_path):
    before = footprint()
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    with (tmp_path / "open").open("w"):
        during = footprint()
    done.set()
    thread.join()
    assert isinstance(before, Footprint)
    assert (during.threads, during.files) == (before.threads + 1, before.files + 1)
    assert before.memory_mb > 10
    assert before.peak_mb is None or before.memory_mb <= before.peak_mb + 1


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
