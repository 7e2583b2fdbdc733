"""Damaged files load or are refused; the fuzzing sees what is neither."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.errors import EdgesegError, SourceError
from runtime.network.onnx_file import parse_onnx
from runtime.sources import open_source
from tests.fuzz import worker as fuzz_worker
from tests.fuzz.__main__ import main
from tests.fuzz.answering import answering
from tests.fuzz.corruption import OWN_TARGETS, TARGETS, Originals, damaged, sealed, unsealed
from tests.fuzz.fuzzing import FuzzConfig, fuzz, read_originals, report_text
from tests.fuzz.seeds import BAGS, CONTAINERS, seeds
from tests.fuzz.worker import IMPATIENT, Worker, open_file, watch


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory, write_tiny_onnx: Callable[..., Path]) -> Originals:
    return read_originals(write_tiny_onnx(tmp_path_factory.mktemp("fuzz") / "tiny.onnx"), None)


@pytest.mark.parametrize("target", OWN_TARGETS)
def test_damaged_files_load_or_are_refused(originals: Originals, target: str, tmp_path: Path) -> None:
    """In this process: what would crash it is looked for by the command."""
    path = tmp_path / "variant"
    refused = 0
    for index in range(40):
        path.write_bytes(damaged(originals, target, index, 0))
        try:
            open_file(target, path)
        except EdgesegError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    ("targets", "variants"),
    [(("image", "label", "classes", "shapes"), 60), ((*CONTAINERS, *BAGS), 20), (("http", "rtsp"), 4)],
    ids=["images", "recordings", "streams"],
)
def test_damaged_files_of_strangers_load_or_are_refused(
    originals: Originals, targets: tuple[str, ...], variants: int
) -> None:
    """In a process of their own, since the decoders are of C."""
    outcomes = fuzz(originals, FuzzConfig(variants=variants, targets=targets, time_limit=60))
    assert [outcome for outcome in outcomes if not outcome.is_fine] == []
    assert any(outcome.result != "loaded" for outcome in outcomes)


@pytest.mark.parametrize("target", CONTAINERS)
def test_every_whole_video_has_frames(target: str, tmp_path: Path) -> None:
    assert len(seeds(target)) == 10
    for content in seeds(target)[:3]:
        (tmp_path / "whole").write_bytes(content)
        assert watch(open_source(str(tmp_path / "whole"))) >= 6


@pytest.mark.parametrize(("target", "number"), [("http", 0), ("http", 2), ("http", 5), ("rtsp", 0)])
def test_whole_answers_of_a_server_have_frames(target: str, number: int) -> None:
    with (
        answering(seeds(target)[number]) as port,
        open_source(f"{target}://127.0.0.1:{port}/live", policy=IMPATIENT) as source,
    ):
        with suppress(SourceError):  # of a live source the freshest frame may be one of before it was lost
            next(iter(source))
        assert source.status.captured >= 1


def test_the_same_seed_gives_the_same_damage(originals: Originals) -> None:
    for target in TARGETS:
        assert damaged(originals, target, 4, 1) == damaged(originals, target, 4, 1)
    assert damaged(originals, "onnx", 4, 1) != damaged(originals, "onnx", 4, 2)
    assert damaged(originals, "onnx", 4, 1) != damaged(originals, "onnx", 5, 1)


def test_a_seal_can_be_put_on_and_taken_off(originals: Originals) -> None:
    assert parse_onnx(sealed(originals.model)).is_sealed
    assert unsealed(sealed(originals.model)) == originals.model


def crash(target: str, path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(target: str, path: Path) -> None:
    time.sleep(600)


def run_code(target: str, path: Path) -> None:
    os.system("true")


def stumble(target: str, path: Path) -> None:
    raise KeyError("oops")


def write_elsewhere(target: str, path: Path) -> None:
    (path.parent / "planted").write_text("x")


@pytest.fixture
def misbehave(monkeypatch: pytest.MonkeyPatch, originals: Originals) -> Callable[..., str]:
    """Let the worker open its first variant in a way of the test's; fork, so that it sees the patch."""

    def check(behaviour: Callable[[str, Path], None]) -> str:
        calls = []

        def open_then_misbehave(target: str, path: Path) -> None:
            calls.append(target)
            if len(calls) > 3:  # the first three are the whole files
                behaviour(target, path)

        monkeypatch.setattr(fuzz_worker, "open_file", open_then_misbehave)
        monkeypatch.setattr(fuzz_worker, "START_METHOD", "fork")
        worker = Worker(originals, 0, 1.0)
        try:
            return worker.check("contract", 0)
        finally:
            worker.close()

    return check


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    ("behaviour", "result"),
    [
        (crash, "crash: exit code -9"),
        (hang, "hang: no answer within 1 s"),
        (run_code, "ran code: os.system"),
        (write_elsewhere, "ran code: open"),
        (stumble, "untyped: KeyError: 'oops'"),
    ],
)
def test_what_must_not_happen_is_seen(
    misbehave: Callable[..., str], behaviour: Callable[[str, Path], None], result: str
) -> None:
    assert misbehave(behaviour).startswith(result)


def test_files_are_opened_in_a_process_of_their_own(originals: Originals) -> None:
    outcomes = fuzz(originals, FuzzConfig(variants=3, targets=("contract", "onnx")))
    assert [(outcome.target, outcome.index) for outcome in outcomes] == [
        (target, index) for target in ("contract", "onnx") for index in range(3)
    ]
    assert all(outcome.is_fine for outcome in outcomes)
    assert report_text(outcomes, 0).splitlines()[-1] == "failures   0 of 6 (seed 0)"


@pytest.mark.parametrize(
    ("flag", "said"),
    [("--variants", "of at least 1"), ("--jobs", "of at least 1"), ("--time-limit", "above 0 s")],
)
def test_numbers_that_cannot_work_are_refused(
    flag: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([flag, "0"]) == 1
    assert f"expected a number {said}, got 0" in capsys.readouterr().err


def test_the_command_prints_every_outcome(tiny_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", str(tiny_onnx), "--variants", "2", "--targets", "contract", "graph", "--json"]
    assert main(arguments) == 0
    outcomes = json.loads(capsys.readouterr().out)
    assert [(one["target"], one["index"]) for one in outcomes] == [
        (target, index) for target in ("contract", "graph") for index in range(2)
    ]
