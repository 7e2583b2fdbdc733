import platform

import pytest

from benchmarks.machine.processor import (
    cpu_limit,
    cpu_name,
    governor,
    physical_cores,
    relevant_flags,
    resident_mb,
    virtual_machine,
)

X86 = """processor\t: 0
model name\t: AMD EPYC 9
cpu MHz\t\t: 2596.1
flags\t\t: fpu sse2 avx2 avx512_vnni
"""
ARM = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd crc32 asimddp\n\nModel : Raspberry Pi 5\n"


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


FREQ = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"


def test_governor_of_the_hardware_threads_we_may_use(system):
    files = system(
        {FREQ.format(cpu): name for cpu, name in enumerate(["ondemand", "ondemand", "performance"])}
    )
    assert governor(files, [0, 1]) == "ondemand"
    assert governor(files, [0, 2]) == "ondemand, performance"
    assert governor(files, [7]) is None


STATUS = "Name:\tpython\nVmPeak:\t 999999 kB\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\nThreads:\t5\n"


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (STATUS, (100.0, 200.0)),
        (STATUS.replace("VmHWM", "VmOther"), (100.0, None)),  # gVisor tells no peak
        (STATUS.replace("VmRSS", "VmOther"), (None, 200.0)),
        ("", (None, None)),
        (None, (None, None)),
    ],
)
def test_memory_of_this_process_is_as_the_kernel_tells(tmp_path, status, found):
    if status is not None:
        (tmp_path / "status").write_text(status)
    assert resident_mb(tmp_path / "status") == found


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
                "sys/fs/cgroup/cpu.max": "400000 100000\n",
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
