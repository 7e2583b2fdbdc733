"""What a measurement was made on; a latency without this says nothing."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace

import cv2
import numpy as np
import onnxruntime as ort

from benchmarks.machine import processor, usage
from benchmarks.machine.processor import SystemFiles
from benchmarks.machine.usage import Temperature
from benchmarks.machine.yardstick import Noise, measure_noise

UNKNOWN = "unknown"
NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Machine:
    """The computer and the software of a measurement; None is what the system does not tell.

    Attributes:
        cpu: the processor's or the board's own name.
        cpus: hardware threads that this process may use.
        cores: physical cores that these are on.
        all_cpus: hardware threads of the whole machine.
        cpu_limit: what control groups allow, such as "1.5 CPUs", or "none".
        flags: instruction sets that networks profit from, as the kernel names them.
        memory_mb: of the whole machine, in units of 2^20 bytes.
        virtual: whether this is a virtual machine, and whose.
        governor: who chooses the clock.
        clock_mhz: of the fastest hardware thread when this was read.
        highest_clock_mhz: what it can have.
        temperature: when this was read.
        load: programs that ran or wanted to, over 1, 5 and 15 minutes.
        steal_percent: time since the start that the host gave to other machines.
        system: operating system and architecture.
        versions: of Python and of each package that takes part; of psutil also `NOT_INSTALLED`.
        noise: how unequal equal work was; None where it was not measured.
    """

    cpu: str
    cpus: int
    cores: int | None
    all_cpus: int | None
    cpu_limit: str | None
    flags: tuple[str, ...] | None
    memory_mb: float | None
    virtual: str | None
    governor: str | None
    clock_mhz: float | None
    highest_clock_mhz: float | None
    temperature: Temperature | None
    load: tuple[float, float, float] | None
    steal_percent: float | None
    system: str
    versions: dict[str, str]
    noise: Noise | None = None

    def __str__(self) -> str:
        """Return one line, with the verdict on noise where there is one."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        parts = [f"{self.cpu}, {self.cpus} CPUs, {self.system}", versions]
        if self.versions.get("psutil") == NOT_INSTALLED:
            parts.append("memory, clock, temperature, other load unknown: pip install 'edgeseg[bench]'")
        return "; ".join([*parts, str(self.noise)] if self.noise else parts)

    def facts(self) -> dict[str, str]:
        """Return everything in words, for a table."""
        missing = self.versions.get("psutil") == NOT_INSTALLED
        return {
            "processor": self.cpu,
            "instruction sets": UNKNOWN if self.flags is None else ", ".join(self.flags) or "none of note",
            "cores": f"{_told(self.cores)} physical, {self.cpus} hardware threads for this process of "
            f"{_told(self.all_cpus)}",
            "CPU limit of cgroups": _told(self.cpu_limit),
            "memory": _told(self.memory_mb, "{:.0f} MB"),
            "virtual machine": _told(self.virtual),
            "governor": _told(self.governor),
            "clock": f"{_told(self.clock_mhz, '{:.0f} MHz')}, at most "
            f"{_told(self.highest_clock_mhz, '{:.0f} MHz')}",
            "temperature": _told(self.temperature),
            "load at the start": UNKNOWN
            if self.load is None
            else "{:.2f}, {:.2f}, {:.2f} over 1, 5, 15 minutes".format(*self.load),
            "CPU steal since boot": _told(self.steal_percent, "{:.2f} %"),
            "system": self.system,
            "versions": ", ".join(f"{name} {version}" for name, version in self.versions.items()),
            "noise": "not measured" if self.noise is None else str(self.noise),
            **({"memory, clock, temperature, other programs": usage.MISSING} if missing else {}),
        }


def machine_with_noise(threads: int | None = None) -> Machine:
    """Describe the machine, then work for two seconds to see how noisy it is.

    Args:
        threads: worker threads of the networks that are measured; None takes those of `Segmenter`.
    """
    machine = this_machine()  # before: the work would heat and load it
    return replace(machine, noise=measure_noise(threads=threads))


def this_machine(files: SystemFiles | None = None) -> Machine:
    """Describe the machine that this process runs on.

    Call it before the measurement: load, clock and temperature are those of this moment.

    Args:
        files: for tests.
    """
    files = files or SystemFiles()
    cpus = usable_cpus()
    clock_mhz, highest_clock_mhz = usage.clocks_mhz()
    return Machine(
        cpu=processor.cpu_name(files),
        cpus=len(cpus),
        cores=processor.physical_cores(files, cpus),
        all_cpus=os.cpu_count(),
        cpu_limit=processor.cpu_limit(files),
        flags=processor.relevant_flags(files),
        memory_mb=usage.memory_mb(),
        virtual=processor.virtual_machine(files),
        governor=processor.governor(files, cpus),
        clock_mhz=clock_mhz,
        highest_clock_mhz=highest_clock_mhz,
        temperature=usage.temperature(),
        load=usage.load_average(),
        steal_percent=usage.steal_since_boot_percent(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions={
            "python": platform.python_version(),
            "onnxruntime": ort.__version__,
            "opencv": cv2.__version__,
            "numpy": np.__version__,
            "psutil": usage.VERSION or NOT_INSTALLED,
        },
    )


def usable_cpus() -> tuple[int, ...]:
    """Return the hardware threads that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return tuple(sorted(affinity(0))) if affinity else tuple(range(os.cpu_count() or 1))


def _told(value: object, form: str = "{}") -> str:
    return UNKNOWN if value is None else form.format(value)
