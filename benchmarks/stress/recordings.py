"""Strikes a recording at random moments and counts what of it still plays."""

from __future__ import annotations

import dataclasses
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cv2
import numpy as np

from benchmarks.machine.description import Machine, this_machine
from runtime.base.flags import check_fields, flag
from runtime.errors import ConfigError, EdgesegError

FAULTS = ("kill -9", "SIGTERM", "SIGHUP", "disk full", "clock jumps")
PROMISED_S = 2.0
_SIGNALS = {"kill -9": signal.SIGKILL, "SIGHUP": signal.SIGHUP}
_FPS = 15.0  # of the built-in drive
_START_S, _LONGEST_S = 60.0, 30.0
_SUFFIXES = (".mp4", ".mkv", ".avi")


class FaultError(EdgesegError):
    """A recording lost more than it promises."""


@dataclass(frozen=True)
class FaultsConfig:
    """How often, and what is recorded."""

    faults: tuple[str, ...] = flag("which to try", default=FAULTS, choices=FAULTS)
    trials: int = flag("random moments of each", default=20, at_least=1)
    suffix: str = flag("kind of video", default=".mp4", choices=_SUFFIXES)
    segment_s: float = flag("length of a recording's files", default=2.0, above=0, unit="seconds")
    stalled_s: float = flag(
        "time beside a disk that hangs half of it, in turn with as much without a recording; 0 leaves it out",
        default=600.0,
        at_least=0,
        unit="seconds",
    )
    seed: int = flag("of the random moments", default=0, at_least=0)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


@dataclass(frozen=True)
class Trial:
    """What one strike left.

    Attributes:
        at_s: seconds into the recording.
        written: frames that were handed to the recording until then.
        playable: frames of all files that can be decoded.
        lost_s: seconds of the recording's end that are gone.
        broken: files before the last one that do not play to their end.
        exit_code: of the process; negative for the signal that ended it.
    """

    at_s: float
    written: int
    playable: int
    lost_s: float
    broken: int
    exit_code: int


@dataclass(frozen=True)
class FaultResult:
    """All strikes of one kind."""

    fault: str
    trials: tuple[Trial, ...]

    @property
    def worst_s(self) -> float:
        """Seconds that the worst one lost."""
        return max(trial.lost_s for trial in self.trials)

    @property
    def kept(self) -> bool:
        """Whether all kept what is promised."""
        return self.worst_s <= PROMISED_S and not any(trial.broken for trial in self.trials)


@dataclass(frozen=True)
class StalledResult:
    """How old masks are beside a disk that hangs, and without a recording.

    Attributes:
        with_ms: p99 of the mask's age in each turn with a recording.
        without_ms: in each turn without.
        dropped: frames that the recording left out.
    """

    with_ms: tuple[float, ...]
    without_ms: tuple[float, ...]
    dropped: int

    @property
    def ratio(self) -> float:
        """Median over the turns, with against without."""
        return float(np.median(np.array(self.with_ms) / np.array(self.without_ms)))


@dataclass(frozen=True)
class FaultsReport:
    """What the faults left."""

    machine: Machine
    config: FaultsConfig
    results: tuple[FaultResult, ...]
    stalled: StalledResult | None


def measure_faults(config: FaultsConfig, show: Callable[[str], None] = lambda line: None) -> FaultsReport:
    """Strike recordings of the built-in drive and look at what is left.

    Args:
        config: what and how often.
        show: gets a line for each strike.

    Raises:
        EdgesegError: the camera does not even start.
    """
    dice = random.Random(config.seed)
    results = []
    for fault in config.faults:
        trials = []
        for number in range(config.trials):
            trial = _strike(fault, dice, config)
            show(
                f"{fault} {number + 1} of {config.trials}: at {trial.at_s:.1f} s, lost {trial.lost_s:.2f} s, "
                f"{trial.broken} earlier files broken"
            )
            trials.append(trial)
        results.append(FaultResult(fault, tuple(trials)))
    stalled = _beside_a_stalled_disk(config, show) if config.stalled_s else None
    return FaultsReport(this_machine(), config, tuple(results), stalled)


def _strike(fault: str, dice: random.Random, config: FaultsConfig) -> Trial:
    """Record for a while, strike, and look."""
    with tempfile.TemporaryDirectory() as folder:
        drive, log = Path(folder, "drive", f"drive{config.suffix}"), Path(folder, "log", "log.jsonl")
        wait_s = dice.uniform(0.5, 3.5 * config.segment_s)
        limit = dice.randrange(60_000, 400_000) if fault == "disk full" else None
        faults = ["clock=0.7"] if fault == "clock jumps" else []
        if limit is not None:  # of a file, so one file must grow until then
            config = dataclasses.replace(config, segment_s=1e6)
        with _camera(faults, drive, log, config, limit) as (process, errors):
            started_s = time.monotonic()
            if fault == "disk full":
                _wait_for(lambda: "File too large" in errors(), process, _LONGEST_S)
                written = _lines(log)
                _stop(process, signal.SIGTERM)
            else:
                time.sleep(wait_s)
                # The lines of the log and the frames of the video come from the same steps.
                written = _lines(log)
                _stop(
                    process, {"kill -9": signal.SIGKILL, "SIGHUP": signal.SIGHUP}.get(fault, signal.SIGTERM)
                )
            at_s = time.monotonic() - started_s
        held = [_playable(path) for path in sorted(drive.parent.glob(f"*{config.suffix}"))]
        # A file that a full disk ended is short; of all others only the last two may be. A busy machine drops
        # frames before they are recorded, so half of them are enough.
        whole = max(1, round(config.segment_s * _FPS / 2))
        broken = sum(count < whole for count in held[:-2]) if limit is None else 0
        lost = max(0, written - sum(held))
        return Trial(at_s, written, sum(held), lost / _FPS, broken, process.returncode)


@contextmanager
def _camera(
    faults: list[str], drive: Path | None, log: Path, config: FaultsConfig, limit: int | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """Run the camera in a process of its own until the block ends; yield it once it segmented a frame."""
    flags = ["--source", "synthetic", "--realtime", "--headless", "--json", "--threads", "1"]
    flags += ["--jsonl", str(log), "--segment-s", "100000" if drive is None else str(config.segment_s)]
    flags += [] if drive is None else ["--save", str(drive)]

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stress.child", *faults, "--", *flags],
            stdout=out,
            stderr=err,
            preexec_fn=limited if limit is not None else None,
        )

        def errors() -> str:
            return _read(err)

        try:
            _wait_for(lambda: _lines(log) > 0, process, _START_S, errors)
            yield process, errors
        finally:
            process.kill()
            process.wait()


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _wait_for(
    condition: Callable[[], bool],
    process: subprocess.Popen[bytes],
    most_s: float,
    errors: Callable[[], str] = lambda: "",
) -> None:
    """Wait for a condition."""
    until_s = time.monotonic() + most_s
    while not condition():
        if process.poll() is not None or time.monotonic() > until_s:
            ended = (
                f"exit code {process.returncode}" if process.poll() is not None else f"{most_s:g} s passed"
            )
            said = errors().strip().splitlines()[-1:] or [ended]
            raise ConfigError(f"faults: expected the camera to run on, it did not: {said[0]}")
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes], number: int) -> None:
    process.send_signal(number)
    try:
        process.wait(_LONGEST_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _lines(log: Path) -> int:
    """Return the whole lines of all segments of a log."""
    return sum(path.read_bytes().count(b"\n") for path in log.parent.glob("*.jsonl"))


def _playable(path: Path) -> int:
    """Return the frames of a video that can be decoded."""
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count


def _beside_a_stalled_disk(config: FaultsConfig, show: Callable[[str], None]) -> StalledResult:
    """Measure the age of masks in turns: beside a recording on a disk that hangs, and without."""
    turn_s = min(60.0, max(5.0, config.stalled_s / 5))
    turns = max(1, round(config.stalled_s / turn_s))
    with_ms: list[float] = []
    without_ms: list[float] = []
    dropped = 0
    for number in range(turns):
        for faulty in (number % 2 == 0, number % 2 == 1):
            age_ms, lost = _ages(faulty, turn_s, config)
            (with_ms if faulty else without_ms).append(age_ms)
            dropped += lost
            show(
                f"stalled disk {number + 1} of {turns}: p99 of the age {age_ms:.1f} ms "
                f"{'beside' if faulty else 'without'} the recording"
            )
    return StalledResult(tuple(with_ms), tuple(without_ms), dropped)


def _ages(faulty: bool, seconds: float, config: FaultsConfig) -> tuple[float, int]:
    """Return the p99 of the mask's age in ms, and the frames that the recording left out."""
    with tempfile.TemporaryDirectory() as folder:
        drive, log = Path(folder, "drive", f"drive{config.suffix}"), Path(folder, "log", "log.jsonl")
        faults = ["stall=10,5"] if faulty else []
        with _camera(faults, drive if faulty else None, log, config) as (process, _):
            time.sleep(seconds)
            _stop(process, signal.SIGTERM)
        ages_ms = [
            json.loads(line)["age_ms"]
            for path in sorted(log.parent.glob("*.jsonl"))
            for line in path.read_text().splitlines()
        ]
        held = sum(map(_playable, drive.parent.glob(f"*{config.suffix}"))) if faulty else len(ages_ms)
        return float(np.percentile(ages_ms[15:] or ages_ms, 99)), max(0, len(ages_ms) - held)
