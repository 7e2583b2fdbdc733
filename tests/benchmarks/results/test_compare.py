"""Planted changes are found, and what did not change is left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from benchmarks.machine.yardstick import Noise
from benchmarks.render.document import to_text
from benchmarks.render.reports import comparison_blocks
from benchmarks.results.compare import Limits, compare
from benchmarks.results.results import Results, Rounds
from runtime.errors import ConfigError

Make = Callable[..., Results]
SEEDS = range(40)


@pytest.fixture(scope="module")
def make_times(make_results: Make) -> Make:
    """Without accuracies, which take most of a comparison's time."""
    return partial(make_results, with_accuracy=False)


def verdicts(old: Results, new: Results, what: str) -> list[str]:
    return [change.verdict for change in compare(old, new).changes if change.what == what]


def test_a_slow_down_of_a_tenth_is_found_on_a_drifting_machine(make_times: Make) -> None:
    found = [
        verdicts(make_times(seed), make_times(seed + 1000, slower=1.1), "p50")[0] == "slower"
        for seed in SEEDS
    ]
    assert sum(found) >= 0.85 * len(found)  # a tenth is not far above what is too little to matter


def test_what_did_not_change_is_not_called_slower_or_faster(make_times: Make) -> None:
    said = [
        change.verdict
        for seed in SEEDS
        for change in compare(make_times(seed), make_times(seed + 1000)).changes
    ]
    assert len(said) == 4 * len(SEEDS)
    assert sum(verdict != "same" for verdict in said) <= 0.02 * len(said)


def test_without_the_yardstick_the_machine_would_be_blamed_on_the_models(make_times: Make) -> None:
    """What it is for: the machine of these results differs by up to 30 % between two runs."""

    def blind(results: Results) -> Results:
        return replace(results, yardstick_ms=((24.0,),) * results.settings.rounds)

    wrong = [
        verdicts(blind(make_times(seed)), blind(make_times(seed + 1000)), "p50") != ["same", "same"]
        for seed in SEEDS[:20]
    ]
    assert sum(wrong) > 0.3 * len(wrong)


def test_a_program_that_takes_half_of_a_run_is_not_blamed_on_the_models(make_times: Make) -> None:
    """It slows plain convolutions on all threads by 60 %, and the networks by 25 %."""

    def disturbed(results: Results) -> Results:
        rounds = results.settings.rounds

        def slowed(samples: Rounds, factor: float) -> Rounds:
            return tuple(
                tuple(factor * one for one in row) if number > rounds // 2 else row
                for number, row in enumerate(samples)
            )

        models = tuple(
            replace(model, stages_ms={name: slowed(rows, 1.25) for name, rows in model.stages_ms.items()})
            for model in results.models
        )
        return replace(results, models=models, yardstick_ms=slowed(results.yardstick_ms, 1.6))

    def said(seed: int, slower: float) -> list[str]:
        return verdicts(make_times(seed), disturbed(make_times(seed + 1000, slower=slower)), "p50")

    assert [said(seed, 1.0) for seed in SEEDS[:20]].count(["same", "same"]) >= 19
    assert sum(said(seed, 1.3)[0] == "slower" for seed in SEEDS[:20]) >= 15


def test_a_gain_is_called_one(make_times: Make) -> None:
    assert verdicts(make_times(1), make_times(2, slower=0.7), "p50")[0] == "faster"


def test_slow_frames_alone_are_found(make_times: Make) -> None:
    new = make_times(2)
    rounds_ms = new.models[0].stage("total")
    rounds_ms[:, ::5] *= 1.8  # a fifth of the frames: the median stays where it was
    slow_tail = replace(
        new.models[0],
        stages_ms={**new.models[0].stages_ms, "total": tuple(map(tuple, rounds_ms.tolist()))},
    )
    old = make_times(1)
    assert verdicts(old, replace(new, models=(slow_tail, new.models[1])), "p90") == ["slower", "same"]


@pytest.mark.parametrize(
    ("drop", "expected"), [(0.0, "same"), (0.0005, "same"), (0.01, "worse"), (-0.01, "better")]
)
def test_a_lost_point_of_accuracy_is_found(make_results: Make, drop: float, expected: str) -> None:
    old, new = make_results(1), make_results(2, accuracy_drop=drop)
    assert verdicts(old, new, "mIoU") == [expected, "same"]


def test_a_foreign_file_is_compared_by_its_network(make_results: Make) -> None:
    old = make_results(1, labels=(), foreign=("theirs",))
    new = make_results(2, labels=(), foreign=("theirs",), slower=1.3)
    assert [(change.what, change.verdict) for change in compare(old, new).changes] == [
        ("p50", "slower"),
        ("p90", "slower"),
    ]


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("threads", 4, "threads 2 and 4"),
        ("frame_size_hw", (720, 1280), "frame size"),
        ("frames", "other.mp4", "other.mp4"),
        ("frames_sha256", "cd" * 32, "pixels"),
        ("frames_a_round", 16, "frames a round"),
        ("provider", "cuda", "provider"),
        ("data", "camvid test (233 images)", "camvid test"),
    ],
)
def test_other_settings_are_refused_unless_told(
    make_results: Make, setting: str, value: object, says: str
) -> None:
    old, new = make_results(1), make_results(2)
    new = replace(new, settings=replace(new.settings, **{setting: value}))
    with pytest.raises(ConfigError, match=says):
        compare(old, new)
    assert any(says in note for note in compare(old, new, allow_different=True).notes)


def test_another_machine_is_refused_unless_told(make_results: Make) -> None:
    old, new = make_results(1), make_results(2)
    new = replace(new, machine=replace(new.machine, cpu="Abacus 9"))
    with pytest.raises(ConfigError, match=r"processor .* Abacus 9.*--allow-different"):
        compare(old, new)
    assert compare(old, new, allow_different=True).changes


def test_accuracies_on_other_data_are_never_compared(make_results: Make) -> None:
    old, new = make_results(1), make_results(2)
    new = replace(new, settings=replace(new.settings, data="camvid test (233 images)"))
    changes = compare(old, new, allow_different=True).changes
    assert {change.what for change in changes} == {"p50", "p90"}


def test_what_is_in_one_report_only_and_what_else_changed_is_said(make_results: Make) -> None:
    old, new = make_results(1, labels=("a", "b")), make_results(2, labels=("b", "c"))
    versions = {**new.machine.versions, "onnxruntime": "99.0"}
    notes = compare(old, replace(new, machine=replace(new.machine, versions=versions))).notes
    assert "only in the old report: a" in notes
    assert "only in the new report: c" in notes
    assert "b is another file now" in notes
    assert any(note.startswith("onnxruntime: ") and note.endswith(" → 99.0") for note in notes)


def test_a_noisy_machine_is_mentioned(make_results: Make) -> None:
    old, new = make_results(1), make_results(2)
    quiet, noisy = (Noise(100, 24.0, spread, spread, 0.0, 0.0) for spread in (2.0, 40.0))
    notes = compare(replace(old, noise=quiet), replace(new, noise=noisy)).notes
    noisy_ones = [note.partition(" report's machine was noisy: ")[0] for note in notes]
    assert "the new" in noisy_ones


def test_reports_without_a_common_model_are_refused(make_results: Make) -> None:
    with pytest.raises(ConfigError, match="a model in both"):
        compare(make_results(1, labels=("a",)), make_results(2, labels=("b",)))


@pytest.mark.parametrize("wrong", [{"percent": -1}, {"points": 101}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Limits(**wrong)


def test_the_text_lists_old_and_new(make_results: Make) -> None:
    lines = to_text(comparison_blocks(compare(make_results(1), make_results(1)))).splitlines()
    assert lines[0].split()[:3] == ["model", "old", "new"]
    assert lines[1].split()[:2] == ["small", "p50"]
    assert "× 1.000" in lines[1]
