"""Which processor this is, as Linux tells: name, instruction sets, cores, limits, virtual or not, governor.

psutil lacks all of this: the board's name, the instruction sets that decide how fast a network runs, the
cores below the hardware threads that this process may use (psutil counts the machine's), the limits of
control groups, the hypervisor, the governor, and the most memory that a process has held. What is not told is
None, never a guess.
"""

from __future__ import annotations

import ctypes
import math
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class SystemFiles:
    """The two trees of files that the kernel makes up; tests put their own in their place."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")


def text_of(path: Path) -> str | None:
    """Return a file's text without blanks and zeros at its ends; None where it is not there for us."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(" \n\t\0") or None
    except (OSError, ValueError):
        return None


def number_of(path: Path) -> float | None:
    """Return the number that a file consists of; None where it does not."""
    return number(text_of(path))


def number(text: str | None) -> float | None:
    """Return a text's finite number.

    >>> number("42000"), number("<not supported>"), number("nan"), number(None)
    (42000.0, None, None, None)
    """
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


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


def governor(files: SystemFiles, cpus: Iterable[int]) -> str | None:
    """Return who chooses the clock, such as "performance"; all of them where they differ."""
    folder = files.sys / "devices/system/cpu"
    told = {text_of(folder / f"cpu{cpu}/cpufreq/scaling_governor") for cpu in cpus} - {None}
    return ", ".join(sorted(name for name in told if name)) or None


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


def resident_mb(status: Path = Path("/proc/self/status")) -> tuple[float | None, float | None]:
    """Return the memory that this process holds and the most it has held, in units of 2^20 bytes."""
    try:
        text = status.read_text()
    except OSError:
        return None, None
    told_kb = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", text, re.M))
    now_kb, peak_kb = told_kb.get("VmRSS"), told_kb.get("VmHWM")  # gVisor tells no peak
    return now_kb and int(now_kb) / 1024, peak_kb and int(peak_kb) / 1024


def give_back_freed_memory() -> None:
    """Let glibc give back what is free in its heaps, which else counts as held; elsewhere do nothing."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


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
