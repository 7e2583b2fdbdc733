import json
import math
import platform
from dataclasses import replace

import onnxruntime
import pytest

from benchmarks import machine as machine_module
from benchmarks.cpu_times import (
    CpuShares,
    CpuTimes,
    cpu_times,
    load_average,
    shares,
    steal_since_boot_percent,
)
from benchmarks.machine import NOT_TOLD, Machine, calibrated_machine, this_machine
from benchmarks.noise import LEAST_SAMPLES, Noise, measure_noise, noise_of
from benchmarks.processor import (
    cpu_limit,
    cpu_name,
    hardware_threads,
    physical_cores,
    relevant_flags,
    virtual_machine,
)
from benchmarks.sensors import clock_mhz, governor, highest_clock_mhz, temperature
from runtime.codec import from_plain, to_plain

X86 = """processor\t: 0
model name\t: AMD EPYC 9
cpu MHz\t\t: 2596.1
flags\t\t: fpu sse2 avx2 avx512_vnni
"""
ARM = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd crc32 asimddp\n\nModel : Raspberry Pi 5\n"


def test_names_what_a_latency_depends_on():
    machine = this_machine()
    assert machine.cpu
    assert machine.cpus >= 1
    assert machine.versions["onnxruntime"] == onnxruntime.__version__
    assert machine.versions["python"] == platform.python_version()
    assert machine.cpu in str(machine)
    assert machine.noise is None
    assert machine.facts()["noise"] == "not measured"


def test_comes_back_from_json():
    machine = replace(this_machine(), noise=Noise(20, 5.0, 1.0, 2.0, None, 3.0))
    assert from_plain(Machine, json.loads(json.dumps(to_plain(machine)))) == machine


def test_what_the_system_does_not_tell_is_said_so(system):
    machine = this_machine(system({}))
    for name in ("cores", "all_cpus", "cpu_limit", "flags", "memory_mb", "virtual", "governor", "clock_mhz"):
        assert getattr(machine, name) is None
    assert (machine.highest_clock_mhz, machine.temperature, machine.load, machine.steal_percent) == (
        None,
    ) * 4
    facts = machine.facts()
    for name in ("instruction sets", "limit by control groups", "memory", "virtual machine", "governor"):
        assert facts[name] == NOT_TOLD
    assert facts["clock"] == "not told, highest not told"
    assert (
        facts["temperature"]
        == facts["load at the start"]
        == facts["taken by the host since boot"]
        == NOT_TOLD
    )


def test_is_described_before_it_is_loaded(monkeypatch):
    order = []
    described = this_machine()
    noise = Noise(20, 5.0, 1.0, 2.0, None, None)
    monkeypatch.setattr(machine_module, "this_machine", lambda: order.append("describe") or described)
    monkeypatch.setattr(machine_module, "measure_noise", lambda threads: order.append(threads) or noise)
    assert calibrated_machine(3).noise == noise
    assert order == ["describe", 3]


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"proc/cpuinfo": X86 + X86.replace("EPYC 9", "other")}, "AMD EPYC 9"),
        (
            {"proc/device-tree/model": "Raspberry Pi 5 Model B\0", "proc/cpuinfo": X86},
            "Raspberry Pi 5 Model B",
        ),
        ({}, "aarch64"),
        ({"proc/cpuinfo": "Features : fp asimd\n"}, "aarch64"),
        ({"proc/cpuinfo": "\0\xff:::\n:\n"}, "aarch64"),
    ],
)
def test_a_board_goes_by_its_own_name_and_a_processor_by_its_model(system, monkeypatch, files, name):
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert cpu_name(system(files)) == name


@pytest.mark.parametrize(
    ("cpuinfo", "flags"),
    [
        (X86, ("avx2", "avx512_vnni")),
        (
            X86.replace(" avx512_vnni", " avx512_vnni amx_int8 avx_vnni"),
            ("avx2", "avx_vnni", "avx512_vnni", "amx_int8"),
        ),
        (ARM, ("asimd (neon)", "asimddp (dot product)")),
        ("processor : 0\n", None),
        ("flags : fpu\n", ()),
    ],
)
def test_instruction_sets_by_the_kernels_names(system, cpuinfo, flags):
    assert relevant_flags(system({"proc/cpuinfo": cpuinfo})) == flags


def test_two_hardware_threads_of_a_core_are_one_core(system):
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    files = system({topology.format(cpu): f"{cpu % 2},{cpu % 2 + 2}\n" for cpu in range(4)})
    assert physical_cores(files, range(4)) == 2
    assert physical_cores(files, [0, 2]) == 1
    assert physical_cores(files, [0, 7]) is None


@pytest.mark.parametrize(
    ("online", "count"), [("0-3", 4), ("0", 1), ("0-3,6,8-9\n", 7), ("", None), ("all", None)]
)
def test_hardware_threads_of_the_machine(system, online, count):
    assert hardware_threads(system({"sys/devices/system/cpu/online": online})) == count


@pytest.mark.parametrize(
    ("files", "answer"),
    [
        ({"proc/cpuinfo": X86}, "no"),
        ({"proc/cpuinfo": X86.replace(" avx512_vnni", " avx512_vnni hypervisor")}, "yes"),
        (
            {
                "proc/cpuinfo": X86.replace(" avx512_vnni", " avx512_vnni hypervisor"),
                "sys/class/dmi/id/sys_vendor": "QEMU\n",
                "sys/class/dmi/id/product_name": "Standard PC\n",
            },
            "yes, QEMU Standard PC",
        ),
        ({"proc/cpuinfo": ARM}, None),
        ({"proc/cpuinfo": ARM, "sys/hypervisor/type": "xen\n"}, "yes, xen"),
        ({}, None),
    ],
)
def test_virtual_machine(system, files, answer):
    assert virtual_machine(system(files)) == answer


V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/cpu.max": "150000 100000\n"}, "1.5 CPUs"),
        ({"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/cpu.max": "max 100000\n"}, "none"),
        (
            {
                "proc/self/cgroup": "0::/pod/app\n",
                "sys/fs/cgroup/pod/app/cpu.max": "max 100000\n",
                "sys/fs/cgroup/pod/cpu.max": "50000 100000\n",
            },
            "0.5 CPUs",
        ),
        # Inside a container the path is the host's, but the tree begins at the container's own group.
        ({"proc/self/cgroup": "0::/docker/1f\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, "2 CPUs"),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/app\n0::/\n",
                f"{V1}/app/cpu.cfs_quota_us": "-1\n",
                f"{V1}/app/cpu.cfs_period_us": "100000\n",
            },
            "none",
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/app\n",
                f"{V1}/cpu.cfs_quota_us": "-1\n",
                f"{V1}/cpu.cfs_period_us": "100000\n",
                f"{V1}/app/cpu.cfs_quota_us": "300000\n",
                f"{V1}/app/cpu.cfs_period_us": "100000\n",
            },
            "3 CPUs",
        ),
        ({"proc/self/cgroup": "0::/\n"}, None),
        ({"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/cpu.max": "some words\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 0\n"}, None),
        ({"proc/self/cgroup": "nonsense\n"}, None),
        ({}, None),
    ],
)
def test_the_tightest_limit_of_control_groups_counts(system, files, limit):
    assert cpu_limit(system(files)) == limit


ZONE, CHIP = "sys/class/thermal/thermal_zone{}/", "sys/class/hwmon/hwmon{}/"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {ZONE.format(0) + "type": "cpu-thermal\n", ZONE.format(0) + "temp": "48312\n"},
            "48.3 °C (cpu-thermal)",
        ),
        (
            {
                ZONE.format(0) + "type": "battery\n",
                ZONE.format(0) + "temp": "90000\n",
                CHIP.format(1) + "name": "k10temp\n",
                CHIP.format(1) + "temp1_input": "61000\n",
                CHIP.format(1) + "temp2_input": "64500\n",
            },
            "64.5 °C (k10temp)",
        ),
        ({ZONE.format(3) + "temp": "30000\n"}, "30.0 °C (thermal_zone3)"),
        ({ZONE.format(0) + "type": "cpu\n", ZONE.format(0) + "temp": "-274000\n"}, "None"),  # not connected
        ({ZONE.format(0) + "type": "cpu\n", ZONE.format(0) + "temp": "\n"}, "None"),
        ({ZONE.format(0) + "type": "cpu\n", ZONE.format(0) + "temp": "warm\n"}, "None"),
        ({}, "None"),
    ],
)
def test_the_hottest_sensor_of_the_processor(system, files, words):
    assert str(temperature(system(files))) == words


FREQ = "sys/devices/system/cpu/cpu{}/cpufreq/"


def test_clock_and_governor_of_the_hardware_threads_we_may_use(system):
    files = system(
        {
            FREQ.format(0) + "scaling_cur_freq": "1800000\n",
            FREQ.format(1) + "scaling_cur_freq": "2400000\n",
            FREQ.format(2) + "scaling_cur_freq": "3600000\n",
            FREQ.format(0) + "cpuinfo_max_freq": "2400000\n",
            FREQ.format(0) + "scaling_governor": "ondemand\n",
            FREQ.format(1) + "scaling_governor": "ondemand\n",
            FREQ.format(2) + "scaling_governor": "performance\n",
            "proc/cpuinfo": X86,
        }
    )
    assert clock_mhz(files, [0, 1]) == 2400
    assert highest_clock_mhz(files, [0, 1]) == 2400
    assert governor(files, [0, 1]) == "ondemand"
    assert governor(files, [0, 2]) == "ondemand, performance"
    assert (clock_mhz(files, [7]), highest_clock_mhz(files, [7]), governor(files, [7])) == (None, None, None)


def test_clock_where_there_is_no_cpufreq(system):
    second = X86.replace("processor\t: 0", "processor\t: 1").replace("2596.1", "3100.0")
    files = system({"proc/cpuinfo": X86 + "\n" + second})
    assert clock_mhz(files, [0]) == 2596.1
    assert clock_mhz(files, [0, 1]) == 3100.0
    assert clock_mhz(system({"proc/cpuinfo": ARM}), [0]) is None


STAT = "cpu  {} 0 0 {} 0 0 0 {} 0 0\ncpu0 1 2 3\nintr 5\n"


def test_others_and_the_host_are_told_from_us(system, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    before = cpu_times(system({"proc/stat": STAT.format(1000, 2000, 50)}), own_s=4.0)
    after = cpu_times(system({"proc/stat": STAT.format(1700, 2200, 150)}), own_s=9.0)
    assert before == CpuTimes(total_s=30.5, busy_s=10.0, steal_s=0.5, own_s=4.0)
    # 10 s of all hardware threads: 7 busy, of which 5 were ours, and 1 stolen.
    assert shares(before, after) == CpuShares(
        steal_percent=pytest.approx(10), others_percent=pytest.approx(20)
    )
    assert steal_since_boot_percent(system({})) == pytest.approx(100 * 1.5 / 40.5)


@pytest.mark.parametrize("stat", [None, "", "cpu\n", "cpu  1 2 3\n", "cpu  a b c d e f g h\n", "intr 1\n"])
def test_damaged_counters_are_not_told(system, stat):
    files = system({} if stat is None else {"proc/stat": stat})
    assert cpu_times(files) is None
    assert steal_since_boot_percent(files) is None


def test_no_time_between_two_readings_tells_nothing():
    times = CpuTimes(10, 5, 0, 1)
    assert shares(times, times) is None
    assert shares(None, times) is None


@pytest.mark.parametrize(
    ("text", "load"), [("0.50 1.25 2.00 5/114 5942\n", (0.5, 1.25, 2.0)), ("0.5 1\n", None), ("", None)]
)
def test_load_average(system, text, load):
    assert load_average(system({"proc/loadavg": text})) == load


def test_noise_by_hand():
    noise = noise_of([10.0] * 8 + [12.0, 15.0], CpuShares(0.0, 3.0))
    assert (noise.samples, noise.p50_ms) == (10, 10.0)
    assert noise.spread_percent == pytest.approx(20)  # the nearest rank of p90 is the ninth of ten
    assert noise.worst_percent == pytest.approx(50)
    assert noise.is_noisy
    assert str(noise).startswith("NOISY: a tenth of 10 equal runs of plain convolutions took 20 % longer")


@pytest.mark.parametrize(
    ("spread", "steal", "others", "is_noisy"),
    [
        (3, 0.0, 1.0, False),
        (3, None, None, False),
        (11, 0.0, 1.0, True),
        (3, 2.5, 1.0, True),
        (3, 0.0, 12.0, True),
    ],
)
def test_what_is_called_noisy(spread, steal, others, is_noisy):
    noise = Noise(100, 5.0, spread, 2 * spread, steal, others)
    assert noise.is_noisy is is_noisy
    assert ("NOISY" in str(noise)) is is_noisy
    assert ("host" in str(noise)) is (steal is not None)


def test_calibration_leaves_its_first_run_out_and_takes_enough(system):
    runs = iter([999.0] + [10.0] * 1000)
    noise = measure_noise(1e-9, run_ms=lambda: next(runs), files=system({}))
    assert noise.samples == LEAST_SAMPLES
    assert (noise.spread_percent, noise.worst_percent) == (0, 0)
    assert noise.steal_percent is None


def test_calibration_really_works_for_a_while():
    noise = measure_noise(0.01, threads=1)
    assert noise.samples >= LEAST_SAMPLES
    assert noise.p50_ms > 0
    assert math.isfinite(noise.worst_percent)
