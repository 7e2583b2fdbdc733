"""The loop for hours: whether memory, threads, open files and latency stay as they were.

The frames of a source go through the `Segmenter`, the `Overlay` and `run`, at full rate, and into any outputs
of `runtime.camera`. A page has a viewer, since it draws only for one.
"""

from __future__ import annotations

import statistics
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

from benchmarks.machine.description import Machine, this_machine
from benchmarks.machine.usage import MISSING, Footprint, footprint
from benchmarks.timing.frames import SYNTHETIC, open_endless
from benchmarks.timing.sustained import duration_flag
from runtime.base.closing import Closable
from runtime.base.flags import check_fields, flag, nested
from runtime.base.percentiles import LatencyLog
from runtime.errors import ConfigError, EdgesegError
from runtime.ground.drawing import GroundSight
from runtime.loop import Step, run
from runtime.network.options import ModelOptions
from runtime.outputs import Output, Outputs, Page, Stream
from runtime.outputs.options import OutputOptions
from runtime.sources import Source, without_secrets

_LOOKS_A_ROW = 5  # at the process; each takes as long as a few frames, so that more would show in the p99
HALVES_ROWS = 10  # rows after the warm-up from which on its halves are compared
_LOOK_EVERY_S = 1.0


class SoakError(EdgesegError):
    """The loop did not stay as it was."""


@dataclass(frozen=True)
class SoakConfig:
    """How to run; the warm-up is whole rows."""

    model: ModelOptions = nested(ModelOptions)
    source: str = flag("as of runtime.camera; a recording starts anew at its end", default=SYNTHETIC)
    duration_s: float = duration_flag("how long: 90s, 10m, 1h", 3600.0, "--duration")
    every_s: float = duration_flag("time a row of the table", 60.0, "--every")
    warmup_s: float = duration_flag("time after which memory must stay", 120.0, "--warmup")
    growth_mb: float = flag(
        "by which memory may grow after that, twice what the median of the later half of the rows has more "
        "than that of the earlier; of fewer than ten rows, the most less the first",
        default=5.0,
        above=0,
        unit="MB",
    )
    p99_growth: float = flag(
        "p99 of the second half after the warm-up that is allowed, in times the first half's, each the "
        "median of its rows, where there are ten",
        default=1.5,
        above=1,
    )
    realtime: bool = flag("play a recording at its own pace", default=False)
    outputs: OutputOptions = nested(
        lambda: OutputOptions(headless=True),
        without=("headless", "require"),
        group="outputs, as of runtime.camera",
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)
        if not self.every_s or not self.warmup_s or self.duration_s < self.warmup_s + self.every_s:
            raise ConfigError(
                "soak: expected a duration of at least the warm-up and one row, got "
                f"{self.duration_s:g} s, warm-up {self.warmup_s:g} s and rows of {self.every_s:g} s"
            )


@dataclass(frozen=True)
class Row:
    """One stretch of the run.

    Attributes:
        until_s: seconds since the start at its end.
        frames: of this row.
        fps: frames a second of this row.
        dropped: frames so far that were captured and not segmented.
        total_ms: p50, p90, p99 and max milliseconds from capture to sink in this row.
        footprint: at its end, but of memory the least that was seen: frames wait for a disk, and go.
    """

    until_s: float
    frames: int
    fps: float
    dropped: int
    total_ms: dict[str, float]
    footprint: Footprint


@dataclass(frozen=True)
class SoakReport:
    """A run.

    Attributes:
        source: what was read, free of passwords.
        rows: one stretch after the other.
        growth_mb: what memory grew by since the warm-up: twice what the median of the later half of the rows
            has more than that of the earlier, as a leak would; of too few rows, the most less the first's.
        more_threads: threads after the last row, less those at the end of the warm-up.
        more_files: open files likewise.
        p99_ratio: p99 of the second half after the warm-up over that of the first; None of too few rows.
        looks: pictures that the page's viewer was given; 0 without a page.
        left_threads: names of the Python threads that outlived the loop.
        problems: what did not stay as it was; empty where all did.
        machine: the computer and the software.
    """

    source: str
    rows: tuple[Row, ...]
    growth_mb: float
    more_threads: int
    more_files: int
    p99_ratio: float | None
    looks: int
    left_threads: tuple[str, ...]
    problems: tuple[str, ...]
    machine: Machine


def soak(
    config: SoakConfig, show: Callable[[Row], None] = lambda row: None, source: Source | None = None
) -> SoakReport:
    """Run the loop.

    Args:
        config: how.
        show: gets each row when it is over.
        source: one that does not end, in place of the config's; it is closed at the end.

    Raises:
        EdgesegError: as `Segmenter` and `run`; SoakError where the source ends before the warm-up does.
    """
    _look()  # before an hour is spent
    name = without_secrets(config.source)
    threads_before = set(threading.enumerate())
    rows: list[Row] = []
    with ExitStack() as opened:
        source = opened.enter_context(source or open_endless(config.source, realtime=config.realtime))
        segment = opened.enter_context(config.model.open())
        ground = GroundSight.of(config.outputs.ground, source, segment.contract.classes)
        stream = Stream(segment.contract, source, name, config.outputs.alpha, ground=ground)
        made = [_Looking(), *config.outputs.make()]
        outputs = opened.enter_context(Outputs(made, stream, required=[output.kind for output in made]))
        viewer = opened.enter_context(_Viewer(made, config.outputs.page_token(), ground is not None))
        started_s = time.monotonic()
        part = _Stretch(started_s)
        for step in outputs.feed(run(source, segment)):
            part.add(step)
            now_s = time.monotonic()
            if now_s - part.started_s >= config.every_s * (len(part.looks) + 1) / _LOOKS_A_ROW:
                with viewer.is_looking:
                    part.looks.append(_look())
            if now_s - part.started_s >= config.every_s:
                rows.append(part.row(started_s, now_s))
                show(rows[-1])
                part = _Stretch(now_s)
                if now_s - started_s >= config.duration_s and len(_after_warmup(rows, config)) > 1:
                    break
    left = [thread for thread in threading.enumerate() if thread not in threads_before and thread.is_alive()]
    return judge(rows, tuple(sorted(thread.name for thread in left)), name, config, viewer.looks)


class _Viewer(Closable):
    """Looks at the pages among outputs every second, as a browser does; where there is none it does nothing.

    Attributes:
        looks: pictures it was given.
    """

    def __init__(self, outputs: Iterable[Output], token: str | None, has_ground: bool) -> None:
        paths = ["frame.jpg", "mask.png", "stats.json", "metrics", *(["ground.png"] if has_ground else [])]
        urls = [f"{page.url}{path}" for page in outputs if isinstance(page, Page) for path in paths]
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._requests = [urllib.request.Request(url, headers=headers) for url in urls]
        self._is_over = threading.Event()
        self.looks = 0
        self.is_looking = threading.Lock()  # who holds it sees the process without the page's answers
        self._thread = threading.Thread(target=self._look, name="soak viewer", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while self._requests and not self._is_over.wait(_LOOK_EVERY_S):
            for request in self._requests:
                with self.is_looking, suppress(OSError):  # before the first frame there is no picture
                    reply = urllib.request.urlopen(request, timeout=5)
                    with reply:
                        self.looks += bool(reply.read()) and request.full_url.endswith("g")

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()


class _Looking(Output):
    """Has every overlay drawn, as a window has."""

    def take(self, step: Step) -> None:
        assert step.overlay_bgr.size

    def close(self) -> None:
        pass


@dataclass
class _Stretch:
    """Collects the steps of one row."""

    started_s: float
    frames: int = 0
    dropped: int = 0
    latencies: LatencyLog = field(default_factory=LatencyLog)
    looks: list[Footprint] = field(default_factory=list)

    def add(self, step: Step) -> None:
        self.frames += 1
        self.dropped = step.dropped
        self.latencies.add({"total": step.age_ms})

    def row(self, started_s: float, now_s: float) -> Row:
        return Row(
            until_s=now_s - started_s,
            frames=self.frames,
            fps=self.frames / (now_s - self.started_s),
            dropped=self.dropped,
            total_ms=self.latencies.summary()["total"],
            footprint=replace(self.looks[-1], memory_mb=min(look.memory_mb for look in self.looks)),
        )


def _look() -> Footprint:
    """Look at this process.

    Raises:
        SoakError: psutil is missing, or sees nothing here.
    """
    found = footprint()
    if found is None:
        raise SoakError(f"soak: expected psutil to look at memory, threads and files, got none; {MISSING}")
    return found


def _after_warmup(rows: Sequence[Row], config: SoakConfig) -> list[Row]:
    return [row for row in rows if row.until_s >= config.warmup_s]


def _halves(of_rows: Sequence[float]) -> tuple[float, float] | None:
    """Return the medians of the earlier and of the later half; None of too few rows."""
    if len(of_rows) < HALVES_ROWS:
        return None
    half = len(of_rows) // 2
    return statistics.median(of_rows[:half]), statistics.median(of_rows[half:])


def _growth_mb(warm: Sequence[Row]) -> float:
    """Return what memory grew by.

    A heap that once had to be larger stays so, which is one step; what leaks grows in both halves.
    """
    memory_mb = [row.footprint.memory_mb for row in warm]
    halves = _halves(memory_mb)
    return max(memory_mb) - memory_mb[0] if halves is None else 2 * (halves[1] - halves[0])


def _p99_ratio(warm: Sequence[Row]) -> float | None:
    """Return the second half's p99 over the first's, each the median of its rows."""
    halves = _halves([row.total_ms["p99"] for row in warm])
    return None if halves is None else halves[1] / halves[0]


def judge(
    rows: Sequence[Row], left: tuple[str, ...], name: str, config: SoakConfig, looks: int
) -> SoakReport:
    """Compare what came after the warm-up with its end."""
    warm = _after_warmup(rows, config)
    if len(warm) < 2:
        raise SoakError(
            f"{name}: expected frames for {config.warmup_s + config.every_s:g} s and more, the source ended "
            "before; take a longer one, or synthetic"
        )
    base, last = warm[0].footprint, warm[-1].footprint
    growth_mb = _growth_mb(warm)
    more_threads, more_files = last.threads - base.threads, last.files - base.files
    problems = []
    if growth_mb > config.growth_mb:
        problems.append(f"memory grew by {growth_mb:.1f} MB, expected at most {config.growth_mb:g} MB")
    if more_threads > 0:
        problems.append(f"{more_threads} more threads than after the warm-up")
    if more_files > 0:
        problems.append(f"{more_files} more open files than after the warm-up")
    p99_ratio = _p99_ratio(warm)
    if p99_ratio is not None and p99_ratio > config.p99_growth:
        problems.append(f"p99 grew to {p99_ratio:.2f} times, expected at most {config.p99_growth:g} times")
    if left:
        problems.append(f"threads still running after the loop: {', '.join(left)}")
    return SoakReport(
        source=name,
        rows=tuple(rows),
        growth_mb=growth_mb,
        more_threads=more_threads,
        more_files=more_files,
        p99_ratio=p99_ratio,
        looks=looks,
        left_threads=left,
        problems=tuple(problems),
        machine=this_machine(),
    )
