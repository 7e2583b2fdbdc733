"""A target in milliseconds: which file, size and threads hold it here, and what to do when they no longer do.

    with DeadlineSegmenter(20) as segment:
        for step in run(source, segment):
            steer(step.segmentation.mask)

On the first frame every setting is timed. Those that are worth it make a ladder, the most accurate at the
top, each at least a tenth faster than the one above. The loop starts on the first that holds the target, goes
down where masks become late, as on a board that throttles, and up again where there is time to spare for long
enough. Each mask says which setting made it.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.base.closing import Closable
from runtime.base.percentiles import percentiles
from runtime.base.shown import shown
from runtime.contract import METADATA_KEY, ModelContract
from runtime.errors import ConfigError, ContractError
from runtime.frame import Frame, Image, Segmentation, check_image
from runtime.network.onnx_file import read_onnx_file
from runtime.network.session import default_threads
from runtime.segmenter import Fitted, Inferred, Segmenter, bundled_model, model_path

logger = logging.getLogger(__name__)

SHARES = (1.0, 0.75, 0.5)  # of a file's own height and width, where it takes others
FASTER = 0.9  # of the time of the step above: less than a tenth is not worth a step
WINDOW = 20  # frames at one step that are judged together
SOONER, SOONER_S = 10, 2.0  # or fewer, where those take so many seconds
SPARE = 0.85  # of the target that the step above may be expected to take
FIRST_WAIT_S = 5.0  # before a step up; twice as long after each that was too early
LONGEST_WAIT_S = 640.0
_BUNDLED = ("camvid-s", "camvid-s-int8", "camvid-n", "camvid-n-int8")
_WARM_UP, _LEAST, _PASS_S = 2, 5, 0.3  # frames and seconds of one of the two passes over a setting


@dataclass(frozen=True)
class Setting:
    """What can be chosen.

    >>> str(Setting(Path("models/seg.onnx"), (352, 480), 2))
    'seg 352x480, 2 threads'
    """

    model: Path
    size_hw: tuple[int, int]
    threads: int
    spin: bool = False

    def __str__(self) -> str:
        """Return it in words."""
        height, width = self.size_hw
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{shown(self.model.stem)} {height}x{width}, {threads}"


@dataclass(frozen=True)
class Choice:
    """A file, at a size of its input; None for the file's own."""

    model: Path
    size_hw: tuple[int, int] | None = None

    @classmethod
    def parse(cls, text: str) -> Choice:
        """Read FILE or FILE:HxW; a bundled name may stand for the file.

        >>> Choice.parse("seg.onnx:264x352").size_hw
        (264, 352)
        """
        found = re.fullmatch(r"(.+):(\d+)x(\d+)", text)
        if found:
            return cls(model_path(found[1]), (int(found[2]), int(found[3])))
        return cls(model_path(text))

    def __str__(self) -> str:
        """Return it as it is typed."""
        return str(self.model) + ("" if self.size_hw is None else ":{}x{}".format(*self.size_hw))


def read_contract(path: Path) -> ModelContract:
    """Read a file's contract without opening it in onnxruntime.

    Raises:
        ModelLoadError: no such file, or a damaged one.
        ContractError: it has no contract.
    """
    text = read_onnx_file(path).metadata.get(METADATA_KEY)
    if text is None:
        raise ContractError(
            f"model {path}: expected a contract in its metadata, found none; use export.adapt"
        )
    return ModelContract.from_json(text)


def sizes_of(contract: ModelContract) -> list[tuple[int, int]]:
    """Return the sizes to try, the file's own first; that one only where it is fixed."""
    described, step = contract.input, contract.input.size_multiple
    sizes_hw = [
        (round(described.size_hw[0] * share / step) * step, round(described.size_hw[1] * share / step) * step)
        for share in SHARES
    ]
    return [size_hw for size_hw in dict.fromkeys(sizes_hw) if described.accepts(size_hw)]


def thread_counts() -> tuple[int, ...]:
    """Return the numbers of threads to try: 1, 2 and 4, as far as there are physical cores."""
    most = default_threads()
    return tuple(count for count in (1, 2, 4) if count <= most)


def settings_of(choices: Sequence[Choice], threads: Sequence[int], *, spin: bool = False) -> list[Setting]:
    """Return every choice with every number of threads, in the order of the choices.

    Raises:
        ConfigError: files of different classes, or a size that a file does not take.
        EdgesegError: as `read_contract`.
    """
    contracts = {choice.model: read_contract(choice.model) for choice in choices}
    first = contracts[choices[0].model].classes
    settings = []
    for choice in choices:
        contract = contracts[choice.model]
        if contract.classes != first:
            raise ConfigError(
                f"steps: expected files of the same classes, got {choices[0].model} and {choice.model} of "
                "others, with which a mask would change its meaning; leave one out"
            )
        size_hw = choice.size_hw or contract.input.size_hw
        if not contract.input.accepts(size_hw):
            raise ConfigError(
                f"{choice.model}: expected {contract.input.accepted_sizes}, got {size_hw[0]}x{size_hw[1]}; "
                "choose such, or export the model with --dynamic"
            )
        settings += [Setting(choice.model, size_hw, count, spin) for count in sorted(threads)]
    return settings


def default_choices(model: Path | None = None, size_hw: tuple[int, int] | None = None) -> list[Choice]:
    """Return what to choose from where nobody said.

    Args:
        model: a file, at the sizes that it takes; None for the bundled files, by their measured accuracy.
        size_hw: the only size.
    """
    if model is not None:
        return [Choice(model, each) for each in ([size_hw] if size_hw else sizes_of(read_contract(model)))]
    found = {bundled_model(name): read_contract(bundled_model(name)).accuracy for name in _BUNDLED}
    files = sorted(found, key=lambda path: -getattr(found[path], "miou", 0.0))
    return [Choice(path, size_hw) for path in files]


@dataclass(frozen=True)
class Timed:
    """A setting and what a frame takes with it here: p90 milliseconds from frame to mask."""

    setting: Setting
    ms: float


def ladder_of(timed: Sequence[Timed]) -> list[Timed]:
    """Return those worth a step, from settings in order of preference.

    >>> a, b, c = (Setting(Path(name), (32, 48), 1) for name in "abc")
    >>> [str(step.setting.model) for step in ladder_of([Timed(a, 20), Timed(b, 19), Timed(c, 9)])]
    ['a', 'c']
    """
    ladder: list[Timed] = []
    for each in timed:
        if not ladder or each.ms <= FASTER * ladder[-1].ms:
            ladder.append(each)
    return ladder


class Pace:
    """Which step of a ladder to take, from what frames took: steps down soon, up late.

    Down where the p90 of `WINDOW` frames, or of those of two seconds, exceeds the target. Up where the step
    above would take at most `SPARE` of it, judged by what both took in the beginning, and the last change is
    long enough ago: 5 s at first, twice as long after each step up that had to be taken back, 5 s again after
    one that held.
    """

    def __init__(self, target_ms: float, costs_ms: Sequence[float], now_s: float) -> None:
        """Start on the first step that holds the target, or on the fastest.

        Args:
            target_ms: to hold.
            costs_ms: what a frame took at each step of the ladder.
            now_s: the clock.
        """
        holding = [index for index, cost in enumerate(costs_ms) if cost <= target_ms]
        self.step = holding[0] if holding else len(costs_ms) - 1
        self.wait_s = FIRST_WAIT_S
        self.judged_ms = 0.0  # p90 of the latest frames that were judged
        self._target_ms = target_ms
        self._costs_ms = tuple(costs_ms)
        self._took: deque[tuple[float, float]] = deque(maxlen=WINDOW)  # when, and milliseconds
        self._changed_s = now_s
        self._is_trial = False  # whether the last change was up and may prove too early

    def add(self, step: int, took_ms: float, now_s: float) -> bool:
        """Take a frame's milliseconds; return whether `step` changed. Frames of another step are ignored."""
        if step != self.step:
            return False
        self._took.append((now_s, took_ms))
        are_slow = len(self._took) >= SOONER and now_s - self._took[0][0] >= SOONER_S
        if len(self._took) < WINDOW and not are_slow:
            return False
        since_s = now_s - self._changed_s
        if self._is_trial and since_s >= self.wait_s:  # it held
            self._is_trial, self.wait_s = False, FIRST_WAIT_S
        p90_ms = self.judged_ms = percentiles(ms for _, ms in self._took)["p90"]
        if p90_ms > self._target_ms:
            if step + 1 == len(self._costs_ms):
                return False
            if self._is_trial:
                self.wait_s = min(LONGEST_WAIT_S, 2 * self.wait_s)
            return self._change(step + 1, now_s, is_trial=False)
        if step == 0 or since_s < self.wait_s:
            return False
        expected_ms = p90_ms * self._costs_ms[step - 1] / self._costs_ms[step]
        return expected_ms <= SPARE * self._target_ms and self._change(step - 1, now_s, is_trial=True)

    def _change(self, step: int, now_s: float, *, is_trial: bool) -> bool:
        self.step, self._changed_s, self._is_trial = step, now_s, is_trial
        self._took.clear()
        return True


def time_setting(segment: Segmenter, image_bgr: Image) -> list[float]:
    """Return what frame after frame takes, in milliseconds."""
    took_ms: list[float] = []
    started_ns = time.perf_counter_ns()
    while len(took_ms) < _WARM_UP + _LEAST or time.perf_counter_ns() - started_ns < _PASS_S * 1e9:
        before_ns = time.perf_counter_ns()
        segment(image_bgr)
        took_ms.append((time.perf_counter_ns() - before_ns) / 1e6)
    return took_ms[_WARM_UP:]


class DeadlineSegmenter(Closable):
    """A `Segmenter` that changes file, size and threads to hold a target; used like one.

    All files of the ladder stay open. The first call takes seconds longer: it times every setting on its
    frame. What it found, and every step, is told to `on_step`.
    """

    def __init__(
        self,
        target_ms: float,
        choices: Sequence[Choice] = (),
        *,
        threads: int | None = None,
        spin: bool = False,
        provider: str = "cpu",
        provider_options: Mapping[str, str] | None = None,
        confidence: bool = False,
        unknown_below: float | None = None,
        steady: bool = False,
        on_step: Callable[[str], object] | None = None,
        timer: Callable[[Segmenter, Image], list[float]] = time_setting,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the files' contracts.

        Args:
            target_ms: p90 from frame to mask to hold: resize, network and mask.
            choices: files and sizes, most accurate first; by default the bundled files.
            threads: the only number of threads; None tries 1, 2 and 4, as far as there are physical cores.
            spin: as of `Segmenter`, like those that follow.
            provider: its threads are its own where it is not cpu.
            provider_options: see above.
            confidence: see above.
            unknown_below: see above.
            steady: see above; begins anew at each step.
            on_step: hears of the ladder and of each step in one line; by default it is logged as a warning.
            timer: for tests.
            clock_s: for tests.

        Raises:
            ConfigError: a target that is not positive, files of different classes, or as `Segmenter`.
            EdgesegError: as `read_contract`.
        """
        if not target_ms > 0:
            raise ConfigError(f"target_ms: expected positive milliseconds, got {target_ms}")
        counts = (threads,) if threads else thread_counts() if provider == "cpu" else (default_threads(),)
        self.target_ms = target_ms
        self._settings = settings_of(choices or default_choices(), counts, spin=spin)
        self._contract = read_contract(self._settings[0].model)

        def open_setting(setting: Setting) -> Segmenter:
            return Segmenter(
                setting.model,
                size_hw=setting.size_hw,
                threads=setting.threads,
                spin=setting.spin,
                provider=provider,
                provider_options=provider_options,
                confidence=confidence,
                unknown_below=unknown_below,
                steady=steady,
            )

        self._open = open_setting
        self._open(self._settings[0]).close()  # what cannot work is told before the first frame
        self._on_step = on_step or (lambda line: logger.warning("%s", line))
        self._timer, self._clock_s = timer, clock_s
        self._lock = threading.Lock()  # guards what follows
        self._is_closed = False
        self._opened = ExitStack()
        self._steps: list[Segmenter] = []
        self._pace: Pace | None = None
        self.ladder: tuple[Timed, ...] = ()

    @property
    def contract(self) -> ModelContract:
        """Of the setting in use; before the first frame, of the first choice."""
        return self._steps[self._pace.step].contract if self._pace else self._contract

    def __call__(self, frame: Image | Frame) -> Segmentation:
        """Segment one frame, see `Segmenter`."""
        return self.finish(self.infer(self.fit(frame)))

    def fit(self, frame: Image | Frame) -> tuple[int, Fitted]:
        """Resize a frame for the step in use, whose number goes with it; times all settings on the first one.

        Raises:
            EdgesegError: as `Segmenter`.
        """
        with self._lock:
            if self._is_closed:
                raise ConfigError("this DeadlineSegmenter is closed; open a new one for more frames")
            if self._pace is None:
                self._begin(check_image(frame.image_bgr if isinstance(frame, Frame) else frame))
            assert self._pace is not None
            step = self._pace.step
        return step, self._steps[step].fit(frame)

    def infer(self, work: tuple[int, Fitted]) -> tuple[int, Inferred]:
        """Run the network of the step that resized it."""
        step, fitted = work
        return step, self._steps[step].infer(fitted)

    def finish(self, work: tuple[int, Inferred]) -> Segmentation:
        """Make the mask, and think about the next step."""
        step, inferred = work
        made = self._steps[step].finish(inferred)
        took_ms = sum(made.latency_ms.values())
        with self._lock:
            pace = self._pace
            assert pace is not None
            if pace.add(step, took_ms, self._clock_s()):
                self._steps[pace.step].begin_anew()
                way = "down" if pace.step > step else "up"
                self._on_step(
                    f"target {self.target_ms:g} ms: stepped {way} to {self.ladder[pace.step].setting} from "
                    f"{self.ladder[step].setting}, where the p90 was {pace.judged_ms:.1f} ms"
                )
        return replace(made, setting=str(self.ladder[step].setting))

    def close(self) -> None:
        """Free the networks; closing twice is fine."""
        with self._lock:
            self._is_closed = True
            self._opened.close()

    def _begin(self, image_bgr: Image) -> None:
        """Time every setting there and back, so that a drifting machine favours none; open the ladder."""
        self._on_step(
            f"target {self.target_ms:g} ms: timing {len(self._settings)} settings on the first frame"
        )
        took_ms: dict[Setting, list[float]] = {setting: [] for setting in self._settings}
        for setting in [*self._settings, *reversed(self._settings)]:
            with self._open(setting) as segment:
                took_ms[setting] += self._timer(segment, image_bgr)
        timed = [Timed(setting, percentiles(took)["p90"]) for setting, took in took_ms.items()]
        self.ladder = tuple(ladder_of(timed))
        self._steps = [self._opened.enter_context(self._open(step.setting)) for step in self.ladder]
        self._pace = Pace(self.target_ms, [step.ms for step in self.ladder], self._clock_s())
        chosen = self.ladder[self._pace.step]
        steps = "; ".join(f"{step.setting}: {step.ms:.1f} ms" for step in self.ladder)
        held = "holds it" if chosen.ms <= self.target_ms else "is the fastest and DOES NOT hold it"
        self._on_step(f"target {self.target_ms:g} ms: {chosen.setting} {held}; steps: {steps}")
        if len({(setting.model, setting.size_hw) for setting in self._settings}) == 1:
            self._on_step(
                f"target {self.target_ms:g} ms: {chosen.setting.model.name} takes one size, so only its "
                "threads can change; export it with --dynamic, or name more files as steps"
            )
