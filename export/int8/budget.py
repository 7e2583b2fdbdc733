"""Searches an int8 form that keeps within an accuracy budget, fastest first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from export.int8.builder import AS_EXPORTED, REPAIRS, LayerError
from runtime.contract import Accuracy
from runtime.errors import ParityError

MAX_RATIO = 0.95  # of float32's time; less gain than that is not worth another file
_MAX_SLOWDOWN = 1.1  # of the straight form, that leaving layers out may cost before repairs are tried


@dataclass(frozen=True)
class Step:
    """One candidate, measured.

    Attributes:
        form: `AS_EXPORTED` or one of `REPAIRS`.
        excluded: layers in float32, worst first.
        points: mIoU or mask agreement, of 100.
        drop: points below the float32 file; negative where int8 is better.
        float_ms: the float32 network's milliseconds, interleaved with this candidate's.
        int8_ms: milliseconds of the candidate's network.
        ratio: median of the candidate's time as a share of float32's.
        size_bytes: of the file.
        accuracy: in full, where there are labels.
    """

    form: str
    excluded: tuple[str, ...]
    points: float
    drop: float
    float_ms: float
    int8_ms: float
    ratio: float
    size_bytes: int
    accuracy: Accuracy | None = None


@dataclass(frozen=True)
class SearchResult:
    """All candidates in the order they were tried, the chosen one, and the ranking if one was needed."""

    steps: tuple[Step, ...]
    chosen: Step
    ranking: tuple[LayerError, ...] = ()


def search(
    measure: Callable[[str, tuple[str, ...]], Step],
    rank_layers: Callable[[], list[LayerError]],
    max_drop: float,
) -> SearchResult:
    """Return the fastest candidate that keeps the budget.

    1. All layers in int8. If that holds, it is the answer.
    2. Layers are left out, those with the worst error first, until the budget holds.
    3. If that costs more than a tenth of the speed, repaired forms with all layers in int8 are tried.

    Args:
        measure: builds and measures the candidate of a form and its excluded layers.
        rank_layers: called at most once.
        max_drop: points that may be lost.

    Raises:
        ParityError: no candidate holds; the message names the best.
    """
    straight = measure(AS_EXPORTED, ())
    if straight.drop <= max_drop:
        return SearchResult((straight,), straight)
    steps = [straight]
    ranking = tuple(rank_layers())
    for count in range(1, len(ranking) + 1):
        step = measure(AS_EXPORTED, tuple(error.layer for error in ranking[:count]))
        steps.append(step)
        if step.drop <= max_drop or step.ratio >= MAX_RATIO:
            break
    if steps[-1].drop > max_drop or steps[-1].ratio > _MAX_SLOWDOWN * straight.ratio:
        steps += [measure(form, ()) for form in REPAIRS]
    held = [step for step in steps if step.drop <= max_drop]
    if not held:
        best = min(steps, key=lambda step: step.drop)
        raise ParityError(
            f"quantize: expected at most {max_drop:g} points lost, the best of {len(steps)} candidates "
            f"({best.form}, {len(best.excluded)} layers in float32) loses {best.drop:.2f}, so no file was "
            "written; allow more with --max-drop, or try another --calibration or more pictures"
        )
    return SearchResult(tuple(steps), min(held, key=lambda step: step.ratio), ranking)
