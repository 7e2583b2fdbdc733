"""What a measurement was made on; a latency without this says nothing."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort


@dataclass(frozen=True)
class Machine:
    """The computer and the software of a measurement.

    Attributes:
        cpu: the processor's or the board's own name.
        cpus: hardware threads that this process may use.
        system: operating system and architecture.
        versions: of Python and of each package that takes part.
    """

    cpu: str
    cpus: int
    system: str
    versions: dict[str, str]

    def __str__(self) -> str:
        """Return one line."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.cpu}, {self.cpus} CPUs, {self.system}; {versions}"


def this_machine() -> Machine:
    """Describe the machine that this process runs on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        cpu=_cpu_name(Path("/proc")),
        cpus=len(affinity(0)) if affinity else os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions={
            "python": platform.python_version(),
            "onnxruntime": ort.__version__,
            "opencv": cv2.__version__,
            "numpy": np.__version__,
        },
    )


def _cpu_name(proc: Path) -> str:
    """Return the board's name where there is one (Raspberry Pi, Jetson), else the processor's."""
    try:
        return (proc / "device-tree" / "model").read_text().rstrip("\0")
    except OSError:
        pass
    try:
        lines = (proc / "cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
