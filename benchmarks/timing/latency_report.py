"""What `benchmarks.latency` found; `runtime.base.codec.to_plain` makes it ready for JSON."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.machine.description import Machine
from benchmarks.machine.energy import Energy
from benchmarks.machine.noise import Noise
from benchmarks.machine.process_usage import CpuUse
from benchmarks.timing.cold_start import ColdStart
from benchmarks.timing.scaling import Scaling
from benchmarks.timing.sustained import Minute


@dataclass(frozen=True)
class ModelFile:
    """The file that was measured; `input_size_hw` in pixels, `quantization` "none" for float32."""

    name: str
    file: str
    sha256: str
    bytes: int
    input_size_hw: tuple[int, int]
    quantization: str


@dataclass(frozen=True)
class LatencyReport:
    """A measurement.

    Attributes:
        latency_ms: p50, p90, p99, p99.9 and max in milliseconds, for each of `frame_timer.STAGES`.
        jitter_ms: the same of the difference between one frame's total and the next one's, whichever
            was longer; None where no two frames followed each other.
        fps: frames a second of the whole loop, all frames counted.
        cpu: processor time of this process for these frames.
        energy: of the processor's package meanwhile.
        wall_s: seconds that the frames took.
        frame_size_hw: height and width of the frames in pixels.
        frames: frames that were counted.
        warmup: frames before them that were not.
        threads: worker threads of the network.
        provider: execution provider by short name.
        conv_gmac_per_s: what plain 3x3 convolutions reach here and now, see `benchmarks.machine.conv_rate`.
        network_time_gmac: what they would have computed in the network's median time.
        noise_meanwhile: how unequal those convolutions were between the frames.
        cold_start: fresh processes; None where left out.
        sustained: minute by minute; empty where left out.
        scaling: other threads and batches; None where left out.
        model: the file.
        machine: the computer and the software, before the measurement.
    """

    latency_ms: dict[str, dict[str, float]]
    jitter_ms: dict[str, float] | None
    fps: float
    cpu: CpuUse
    energy: Energy
    wall_s: float
    frame_size_hw: tuple[int, int]
    frames: int
    warmup: int
    threads: int
    provider: str
    conv_gmac_per_s: float
    network_time_gmac: float
    noise_meanwhile: Noise
    cold_start: ColdStart | None
    sustained: tuple[Minute, ...]
    scaling: Scaling | None
    model: ModelFile
    machine: Machine
