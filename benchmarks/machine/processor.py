"""Which processor this is, as the kernel tells: name, instruction sets, cores, limits, virtual or not."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

from benchmarks.machine.system_files import SystemFiles, number, text_of

# What decides how fast a network runs, by the kernel's names, x86 first, then ARM.
FLAGS = {
    "avx": "avx",
    "f16c": "f16c",
    "fma": "fma",
    "avx2": "avx2",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512vl": "avx512vl",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_tile": "amx_tile",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "neon": "neon",
    "asimd": "asimd (neon)",
    "asimdhp": "asimdhp (float16)",
    "asimddp": "asimddp (dot product)",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
}
_NO_LIMIT = "none"


def cpu_name(files: SystemFiles) -> str:
    """Return the board's name where there is one (Raspberry Pi, Jetson), else the processor's."""
    return (
        text_of(files.proc / "device-tree" / "model")
        or _cpuinfo(files).get("model name")
        or platform.processor()
        or platform.machine()
    )


def relevant_flags(files: SystemFiles) -> tuple[str, ...] | None:
    """Return the instruction sets that networks profit from, in the order of `FLAGS`."""
    told = _kernel_flags(files)
    return None if told is None else tuple(shown for name, shown in FLAGS.items() if name in told)


def physical_cores(files: SystemFiles, cpus: Iterable[int]) -> int | None:
    """Return the cores that some hardware threads make up."""
    siblings = [
        text_of(files.sys / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in cpus
    ]
    return None if None in siblings else len(set(siblings))


def hardware_threads(files: SystemFiles) -> int | None:
    """Return how many the whole machine has running.

    A list such as 0-3,6 is as the kernel writes it.
    """
    listed = text_of(files.sys / "devices/system/cpu/online")
    if listed is None:
        return None
    try:
        spans = [[int(end) for end in span.split("-")] for span in listed.split(",")]
    except ValueError:
        return None
    return sum(span[-1] - span[0] + 1 for span in spans)


def virtual_machine(files: SystemFiles) -> str | None:
    """Return "no", or "yes" and the maker's name where it is told."""
    told = _kernel_flags(files)
    hypervisor = text_of(files.sys / "hypervisor/type")
    if hypervisor or (told is not None and "hypervisor" in told):
        maker = [text_of(files.sys / "class/dmi/id" / name) for name in ("sys_vendor", "product_name")]
        names = " ".join(name for name in [hypervisor, *maker] if name)
        return f"yes, {names}" if names else "yes"
    # Only x86 has a flag for it, so only there its absence tells something.
    return "no" if told is not None and "sse2" in told else None


def cpu_limit(files: SystemFiles) -> str | None:
    """Return the tightest limit of this process's control groups, such as "1.5 CPUs", or "none".

    Version 2 has `cpu.max` ("150000 100000"), version 1 `cpu.cfs_quota_us` and `cpu.cfs_period_us`; both
    are in microseconds.
    """
    limits: list[float | None] = []
    for line in (text_of(files.proc / "self/cgroup") or "").splitlines():
        number_, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number_ == "0" and not controllers:
            for root in (files.sys / "fs/cgroup", files.sys / "fs/cgroup/unified"):
                for folder in _up_from(root, group):
                    quota, _, period = (text_of(folder / "cpu.max") or "").partition(" ")
                    limits += _limit(quota, period)
        elif "cpu" in controllers.split(","):
            for folder in _up_from(files.sys / "fs/cgroup" / controllers, group):
                quota, period = (text_of(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
                limits += _limit(quota, period)
    if not limits:
        return None
    known = [limit for limit in limits if limit is not None]
    return f"{min(known):g} CPUs" if known else _NO_LIMIT


def _limit(quota: str, period: str) -> list[float | None]:
    """Return one limit in CPUs, None for unlimited; empty where nothing is told."""
    if quota in ("max", "-1"):
        return [None]
    quota_us, period_us = number(quota), number(period)
    return [quota_us / period_us] if quota_us and period_us and quota_us > 0 else []


def _up_from(root: Path, group: str) -> list[Path]:
    """Return the folders of a control group and of all those around it, up to the root."""
    parts = [part for part in group.split("/") if part not in ("", "..")]
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _cpuinfo(files: SystemFiles) -> dict[str, str]:
    """Return what /proc/cpuinfo says of its first processor."""
    told: dict[str, str] = {}
    for line in (text_of(files.proc / "cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        told.setdefault(key.strip(), value.strip())
    return told


def _kernel_flags(files: SystemFiles) -> frozenset[str] | None:
    """Return all flags; x86 calls them flags, ARM features."""
    told = _cpuinfo(files)
    listed = told.get("flags") or told.get("Features")
    return None if listed is None else frozenset(listed.split())
