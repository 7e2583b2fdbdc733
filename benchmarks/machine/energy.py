"""Energy of the processor package by its own counters (RAPL), where the system lets us read them.

The counters are of the whole package: of all programs, and of what it takes with nothing to do. Linux
shows them for Intel and AMD under /sys/class/powercap, since 2020 to the administrator only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks.machine.processor import SystemFiles, number_of, text_of


@dataclass(frozen=True)
class Energy:
    """Energy of some stretches of time.

    Attributes:
        joules: by the name of the counter, such as package-0; empty where none could be read.
        why_not: in words; empty where there are joules.
    """

    joules: dict[str, float]
    why_not: str = ""

    def words(self, frames: int, seconds: float) -> str:
        """Return millijoules a frame and watts.

        >>> Energy({"package-0": 5.0}).words(frames=100, seconds=0.5)
        'package-0 50.0 mJ a frame, 10.0 W'
        >>> Energy({}, "no counters").words(frames=100, seconds=0.5)
        'unknown (no counters)'
        """
        if not self.joules:
            return f"unknown ({self.why_not})"
        return "; ".join(
            f"{name} {1000 * joules / frames:.1f} mJ a frame, {joules / seconds:.1f} W"
            for name, joules in self.joules.items()
        )


@dataclass(frozen=True)
class _Counter:
    name: str
    file: Path
    wraps_at_uj: float

    def read_uj(self) -> float | None:
        return number_of(self.file)


class EnergyMeter:
    """Adds up the energy of stretches of time; see `Energy`.

    A stretch must be shorter than the counter takes to wrap around once, which is half a minute at the
    least.
    """

    def __init__(self, files: SystemFiles | None = None) -> None:
        """Find the counters of whole packages."""
        folder = (files or SystemFiles()).sys / "class/powercap"
        self._why_not = "" if folder.is_dir() else "this system has no /sys/class/powercap"
        self._counters: list[_Counter] = []
        # Parts of a package, intel-rapl:0:1, are in it already. AMD's counters have Intel's name too.
        for domain in sorted(folder.glob("intel-rapl:*")):
            if domain.name.count(":") > 1:
                continue
            counter = _Counter(
                name=text_of(domain / "name") or domain.name,
                file=domain / "energy_uj",
                wraps_at_uj=number_of(domain / "max_energy_range_uj") or 0.0,
            )
            if counter.read_uj() is None:
                self._why_not = f"{domain.name}/energy_uj cannot be read; try as root"
            else:
                self._counters.append(counter)
        if not self._counters and not self._why_not:
            self._why_not = "this system has no RAPL counters"
        self._joules = dict.fromkeys((counter.name for counter in self._counters), 0.0)
        self._before_uj: list[float | None] = []

    def __enter__(self) -> EnergyMeter:
        """Begin a stretch."""
        self._before_uj = [counter.read_uj() for counter in self._counters]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        for counter, before_uj in zip(self._counters, self._before_uj, strict=True):
            after_uj = counter.read_uj()
            if before_uj is None or after_uj is None or (after_uj < before_uj and not counter.wraps_at_uj):
                self._joules.pop(counter.name, None)  # a sum with a hole would be too small
                self._why_not = f"{counter.name} could not be read all the time"
                continue
            if after_uj < before_uj:
                after_uj += counter.wraps_at_uj
            if counter.name in self._joules:
                self._joules[counter.name] += (after_uj - before_uj) / 1e6

    def energy(self) -> Energy:
        """Return the sum so far."""
        return Energy(dict(self._joules), "" if self._joules else self._why_not)
