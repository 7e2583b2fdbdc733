"""What a comparison measured, every sample of it, as one JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.layers.limits import ModelLimits
from benchmarks.machine.description import Machine
from benchmarks.machine.yardstick import NOISY_SPREAD_PERCENT, MachineLimits, Noise
from benchmarks.results.statistics import Floats, round_medians
from runtime.base.codec import DecodeError, from_plain, to_plain
from runtime.base.files import read_regular
from runtime.contract import Accuracy
from runtime.errors import ConfigError

SCHEMA = 1
Rounds = tuple[tuple[float, ...], ...]  # milliseconds: rounds, samples in the order they were taken


@dataclass(frozen=True)
class Settings:
    """How it was measured.

    Attributes:
        frames: name of the video, the pictures or the synthetic drive.
        frames_sha256: of the first round's pixels.
        frame_size_hw: height and width of the frames in pixels.
        rounds: each model runs once in each, in another order.
        frames_a_round: that count, of each model.
        settle: frames before them that do not count, since another model had the caches.
        seed: of the orders.
        threads: worker threads of a network.
        provider: execution provider by short name.
        data: what accuracy was measured on; empty where it was not.
    """

    frames: str
    frames_sha256: str
    frame_size_hw: tuple[int, int]
    rounds: int
    frames_a_round: int
    settle: int
    seed: int
    threads: int
    provider: str
    data: str = ""


@dataclass(frozen=True)
class ModelFile:
    """A file that took part.

    Attributes:
        label: its short name in the report.
        file: its file name.
        sha256: of its bytes.
        bytes: of the file.
        kind: with edgeseg's contract, or without, or run by another toolkit's own predictor.
        input: size of what the network takes.
        arithmetic: "float32", or the quantization in words.
    """

    label: str
    file: str
    sha256: str
    bytes: int
    kind: Literal["edgeseg", "foreign", "peer"]
    input: str
    arithmetic: str


@dataclass(frozen=True)
class MeasuredAccuracy:
    """An accuracy, and what it is made of.

    Attributes:
        summary: over all images.
        intersections: pixels a image and class, labelled and predicted alike.
        unions: pixels a image and class, labelled or predicted.
    """

    summary: Accuracy
    intersections: tuple[tuple[int, ...], ...]
    unions: tuple[tuple[int, ...], ...]

    @property
    def counts(self) -> Floats:
        """The counts as (images, 2, classes), for `benchmarks.results.statistics.mean_iou`."""
        return np.stack([np.array(self.intersections, float), np.array(self.unions, float)], axis=1)


@dataclass(frozen=True)
class ModelResult:
    """What was measured of one file.

    Attributes:
        file: which.
        stages_ms: every sample of each stage.
        accuracy: None where it was not measured.
        limits: its network and layers against the machine; None where left out.
    """

    file: ModelFile
    stages_ms: dict[str, Rounds]
    accuracy: MeasuredAccuracy | None = None
    limits: ModelLimits | None = None

    @property
    def label(self) -> str:
        """The file's short name in the report."""
        return self.file.label

    @property
    def whole(self) -> str:
        """The stage that stands for the file: "total", or "network" where nothing else was measured."""
        return "total" if "total" in self.stages_ms else "network"

    def stage(self, name: str) -> Floats:
        """Return a stage's milliseconds, (rounds, samples)."""
        return np.array(self.stages_ms[name], float)


@dataclass(frozen=True)
class Results:
    """A whole comparison.

    Attributes:
        machine: the computer and the software, before the measurement.
        noise: how unequal the yardstick's runs were in all rounds, and what others took meanwhile.
        started: when, UTC, as ISO 8601.
        settings: how.
        yardstick_ms: plain convolutions, see `benchmarks.machine.conv_rate`, in every round.
        orders: labels in the order they ran, a round.
        models: in the order they were named; the first is the one that ratios refer to.
        machine_limits: rates of this machine; None where left out.
        schema: version of this form.
    """

    machine: Machine
    noise: Noise
    started: str
    settings: Settings
    yardstick_ms: Rounds
    orders: tuple[tuple[str, ...], ...]
    models: tuple[ModelResult, ...]
    machine_limits: MachineLimits | None = None
    schema: int = SCHEMA

    @property
    def yardstick(self) -> Floats:
        """The yardstick's milliseconds, (rounds, samples)."""
        return np.array(self.yardstick_ms, float)

    @property
    def unrest_percent(self) -> float:
        """By how much the models together were slower in the slowest tenth of the rounds than in the calmest.

        What slows all of them at once is the machine, also where the yardstick does not feel it: a few long
        convolutions do not wait for threads to wake, as the many small layers of a network do.
        """
        medians = [round_medians(model.stage(model.whole)) for model in self.models]
        together = np.median([one / np.median(one) for one in medians], axis=0)
        calm, slow = np.percentile(together, [10, 90])
        return float(100 * (slow / calm - 1))

    @property
    def is_noisy(self) -> bool:
        """Whether milliseconds of this measurement mean little."""
        return self.noise.is_noisy or self.unrest_percent > NOISY_SPREAD_PERCENT


def results_json(results: Results) -> str:
    """Return what `read_results` reads."""
    return json.dumps(to_plain(results), allow_nan=False)


def read_results(path: Path) -> Results:
    """Read a file that holds `results_json`.

    Raises:
        ConfigError: a file that is missing, is no such file, or was written by another version.
    """
    try:
        plain = json.loads(read_regular(path).decode("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: expected a results.json of benchmarks.report, cannot read it ({error.strerror})"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected a results.json of benchmarks.report, got ({error})") from None
    found = plain.get("schema") if isinstance(plain, dict) else None
    if found != SCHEMA:
        raise ConfigError(
            f"{path}: expected schema {SCHEMA} of benchmarks.report's results.json, got {found!r}; make it "
            "again with this edgeseg"
        )
    try:
        return from_plain(Results, plain)
    except DecodeError as error:
        raise ConfigError(f"{path}: {error}; make it again with benchmarks.report") from None
