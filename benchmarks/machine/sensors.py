"""How hot and how fast the processor is at this moment, where the system tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.machine.system_files import SystemFiles, number, number_of, text_of

_OF_THE_CPU = ("x86_pkg_temp", "coretemp", "k10temp", "zenpower", "cpu", "soc")  # in names of sensors
_PLAUSIBLE_C = (-40.0, 150.0)  # a sensor that is not connected tells something else
_KHZ_A_MHZ = 1000.0


@dataclass(frozen=True)
class Temperature:
    """The hottest sensor of the processor; of all where none says that it is the processor's."""

    celsius: float
    sensor: str

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.celsius:.1f} °C ({self.sensor})"


def temperature(files: SystemFiles) -> Temperature | None:
    """Read the sensors under /sys/class/thermal and /sys/class/hwmon."""
    found: list[Temperature] = []
    for zone in sorted((files.sys / "class/thermal").glob("thermal_zone*")):
        found += _reading(text_of(zone / "type") or zone.name, number_of(zone / "temp"))
    for chip in sorted((files.sys / "class/hwmon").glob("hwmon*")):
        for file in sorted(chip.glob("temp*_input")):
            found += _reading(text_of(chip / "name") or chip.name, number_of(file))
    of_the_cpu = [one for one in found if any(name in one.sensor.lower() for name in _OF_THE_CPU)]
    return max(of_the_cpu or found, key=lambda one: one.celsius, default=None)


def clock_mhz(files: SystemFiles, cpus: Iterable[int]) -> float | None:
    """Return the clock of the fastest of some hardware threads at this moment.

    /proc/cpuinfo takes the place of cpufreq where that is missing; in a virtual machine it is what the host
    states, not what it measures.
    """
    chosen = set(cpus)
    speeds = [
        number_of(files.sys / f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq") for cpu in chosen
    ]
    told_khz = [speed for speed in speeds if speed]
    if told_khz:
        return max(told_khz) / _KHZ_A_MHZ
    told_mhz: list[float] = []
    processor: float | None = None
    for line in (text_of(files.proc / "cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "processor":
            processor = number(value)
        elif key.strip() == "cpu MHz" and processor in chosen and (speed := number(value)):
            told_mhz.append(speed)
    return max(told_mhz, default=None)


def highest_clock_mhz(files: SystemFiles, cpus: Iterable[int]) -> float | None:
    """Return the highest clock that the fastest of some hardware threads can have."""
    speeds = [number_of(files.sys / f"devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq") for cpu in cpus]
    return max((speed / _KHZ_A_MHZ for speed in speeds if speed), default=None)


def governor(files: SystemFiles, cpus: Iterable[int]) -> str | None:
    """Return who chooses the clock, such as "performance"; all of them where they differ."""
    folder = files.sys / "devices/system/cpu"
    told = {text_of(folder / f"cpu{cpu}/cpufreq/scaling_governor") for cpu in cpus} - {None}
    return ", ".join(sorted(name for name in told if name)) or None


def _reading(sensor: str, millidegrees: float | None) -> list[Temperature]:
    if millidegrees is None or not _PLAUSIBLE_C[0] <= millidegrees / 1000 <= _PLAUSIBLE_C[1]:
        return []
    return [Temperature(millidegrees / 1000, sensor)]
