"""Which kind of int8 a processor computes fast: presets, and which one fits the machine this runs on."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.errors import ConfigError

VNNI_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})
_X86 = ("x86_64", "amd64", "i686")
_ARM = ("aarch64", "arm64", "armv8l")


@dataclass(frozen=True)
class TargetCpu:
    """A preset.

    Attributes:
        name: as in `--target` and in the contract.
        activations: "uint8" or "int8"; onnxruntime fuses only uint8 on x86, and its ARM kernels are made for
            int8 on both sides.
        weight_limit: largest magnitude of an int8 weight. 127 uses all 8 bits. Before VNNI, x86 adds two
            products of 8 bits in 16, which overflows unless weights keep to 7 bits.
        min_opset: lowest ONNX operator set that holds the operators of such a graph.
    """

    name: str
    activations: str
    weight_limit: int
    min_opset: int

    @property
    def activation_dtype(self) -> np.dtype[np.uint8] | np.dtype[np.int8]:
        """Element type of activations."""
        return np.dtype(np.uint8) if self.activations == "uint8" else np.dtype(np.int8)


# 13 brought scales per channel; 18 BitwiseXor, which makes an int8 image of a uint8 one without arithmetic.
TARGETS = {
    target.name: target
    for target in (
        TargetCpu("x86-vnni", "uint8", 127, 13),
        TargetCpu("x86", "uint8", 63, 13),
        TargetCpu("arm", "int8", 127, 18),
    )
}


def detect_target(machine: str | None = None, cpuinfo: str | None = None) -> TargetCpu:
    """Return the preset for a processor.

    Args:
        machine: as `platform.machine()` names it; None asks.
        cpuinfo: text of /proc/cpuinfo; None reads it. Where there is none, x86 counts as without VNNI, whose
            files are right everywhere.

    Raises:
        ConfigError: neither x86 nor 64-bit ARM.

    >>> detect_target("aarch64").name, detect_target("x86_64", "flags : avx2").name
    ('arm', 'x86')
    """
    machine = (platform.machine() if machine is None else machine).lower()
    if machine in _ARM:
        return TARGETS["arm"]
    if machine not in _X86:
        raise ConfigError(
            f"target: expected an x86 or a 64-bit ARM processor, got {machine or 'no name'!r}; choose one of "
            f"{', '.join(TARGETS)} with --target"
        )
    if cpuinfo is None:
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text()
        except OSError:  # not Linux
            cpuinfo = ""
    return TARGETS["x86-vnni" if VNNI_FLAGS & set(cpuinfo.split()) else "x86"]
