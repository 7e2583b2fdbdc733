"""Whether int8 pays is said before an hour of search, and the search keeps to its time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import export.int8.first_look
from export.graph.edit import insert_after
from export.int8.first_look import Budget, first_look, obstacles
from export.int8.judge import OptimizedGraph, PairedSpeed
from export.int8.search import AS_EXPORTED, LayerError, Step, search
from export.int8.target import TARGETS
from export.module import ExportReport
from runtime.errors import ConfigError, ParityError
from runtime.network.session import NetworkSession

SLOWER = PairedSpeed(10.0, 16.8, 1.68, 3)
FRAMES = [np.zeros((64, 96, 3), np.uint8)] * 12


@pytest.fixture
def look(exported: tuple[Path, ExportReport], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    path = exported[1].path

    def run(speed: PairedSpeed, budget: Budget, force: bool = False) -> int:
        monkeypatch.setattr(export.int8.first_look, "paired_speed", lambda *_, **__: speed)
        contract = NetworkSession(path).contract
        how = {"pairs": 3, "threads": 1, "force": force}
        return first_look(path, ir.load(path), contract, FRAMES, TARGETS["x86"], budget, **how)

    return run


def test_a_network_that_int8_slows_down_is_refused_with_the_reason(
    look: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        ConfigError, match=r"does not pay .* 16\.8 ms against 10\.0 ms, 1\.68 of .* since .*left"
    ):
        look(SLOWER, Budget(1800))
    assert "first look: 1.68 of float32's time" in capsys.readouterr().err


def test_force_writes_it_all_the_same(look: Callable[..., int]) -> None:
    assert look(SLOWER, Budget(1800), force=True) == len(FRAMES)


def test_calibration_takes_a_third_of_the_time_at_most(look: Callable[..., int]) -> None:
    faster = dataclasses.replace(SLOWER, ratio=0.5)
    assert look(faster, Budget(1800)) == len(FRAMES)
    assert look(faster, Budget(1e-3)) == 4


def test_reasons_name_what_stays_slow(exported: tuple[Path, ExportReport]) -> None:
    model = ir.load(exported[1].path)
    convolution = next(node for node in model.graph if node.op_type == "Conv")
    convolution.attributes["dilations"] = ir.AttrInt64s("dilations", [2, 2])
    convolution.attributes["group"] = ir.AttrInt64("group", 3)
    insert_after(convolution.outputs[0], "PRelu", [convolution.outputs[0], np.ones(1, np.float32)], "prelu")
    graph = OptimizedGraph({}, {"PRelu": 1, "Resize": 2}, 5, 6, False)
    said = obstacles(model, graph)
    assert "1 PRelu compute in float32" in said
    assert "convolutions are dilated" in said
    assert "1 of" in said
    assert "are grouped or depthwise" in said
    assert "float32 stay 2 Resize" in said
    assert "11 conversions" in said


def test_the_best_so_far_is_the_answer_when_the_time_is_used_up() -> None:
    asked = iter([False, True, True, True, True, True])
    ranking = [LayerError("worst", 5.0), LayerError("bad", 15.0)]

    def measure(form: str, excluded: tuple[str, ...]) -> Step:
        drop = 0.4 if excluded else 3.0
        return Step(form, excluded, 60 - drop, drop, 10.0, 8.0, 0.8 if excluded else 0.5, 1000)

    found = search(measure, lambda: ranking, 0.5, lambda: next(asked))
    assert found.chosen.excluded == ("worst",)
    assert [step.form for step in found.steps] == [AS_EXPORTED] * 2
    with pytest.raises(ParityError, match="time is used up, allow more with --budget-s"):
        search(measure, lambda: ranking, 0.1, lambda: True)
