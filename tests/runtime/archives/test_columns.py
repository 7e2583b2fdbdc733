"""What a shard's columns say of frames, however many of them are segmented together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from runtime.archives import chunk, columns
from runtime.archives.chunk import ChunkOptions, ChunkSegmenter
from runtime.archives.columns import ShardColumns
from runtime.archives.jobs import find_recordings, plan
from runtime.archives.shards import read_shard
from runtime.contract import METADATA_KEY, ImageFit, ModelContract
from runtime.errors import ContractError
from runtime.frame import Frame
from runtime.network.options import ModelOptions
from runtime.segmenter import Segmenter
from runtime.sources import ImageFiles
from tests.runtime.archives.conftest import shards_of


@pytest.fixture(params=["stretch", "letterbox", "crop"])
def fitted(request: pytest.FixtureRequest, model: Path, tmp_path: Path) -> Path:
    """A network that gets frames in one of three ways."""
    onnx_model = onnx.load(model)
    for entry in onnx_model.metadata_props:
        if entry.key == METADATA_KEY:
            contract = ModelContract.from_json(entry.value)
            entry.value = contract.with_input(fit=ImageFit(request.param)).to_json()
    path = tmp_path / "fitted.onnx"
    path.write_bytes(onnx_model.SerializeToString())
    return path


def test_confidence_is_near_the_mean_of_all_pixels(fitted: Path) -> None:
    image_bgr = np.zeros((50, 90, 3), np.uint8)
    for column in range(90):  # from sure to unsure, so that what is cut off counts
        image_bgr[:, column] = (255, 255 - column, 2 * column)
    with Segmenter(fitted, confidence=True) as segment:
        seen = segment(image_bgr)
        kept = ShardColumns(segment, None, masks=False, mask_scale=0.5)
        kept.add(Frame(image_bgr, 0, 0), ImageFiles(["none.png"]))
        kept.flush()
    assert seen.confidence is not None
    mean = seen.confidence.mean() / 255
    assert kept._columns["confidence"] == pytest.approx([mean], abs=0.01)


def test_shards_are_the_same_however_many_frames_go_together(fleet, run, tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "_TOGETHER_BYTES", 1)
    run(fleet, "--out", tmp_path / "one by one")
    monkeypatch.setattr(columns, "_TOGETHER_BYTES", 7 * 32 * 48 * 3)
    run(fleet, "--out", tmp_path / "together")
    assert shards_of(tmp_path / "together") == shards_of(tmp_path / "one by one")


@pytest.mark.parametrize("stage", ["infer", "finish"])
def test_frames_before_one_that_fails_are_kept(fleet, run, tmp_path, monkeypatch, stage):
    whole, calls = getattr(Segmenter, stage), []

    def failing(self: Segmenter, item: object) -> object:
        calls.append(item)
        if len(calls) == 14:
            raise ContractError("expected finite logits")
        return whole(self, item)

    monkeypatch.setattr(Segmenter, stage, failing)
    report = run(fleet / "motion.avi", "--out", tmp_path)
    assert report["code"] == 1
    assert "expected finite logits" in str(report["said"])
    kept = [read_shard(path).columns["frame"].tolist() for path in sorted((tmp_path / "shards").rglob("0*"))]
    assert kept == [list(range(10)), [10, 11, 12]]  # nothing follows, since its length is not known


def test_a_chunks_time_is_without_that_of_opening_the_model(fleet, model, tmp_path, monkeypatch):
    opened = ModelOptions.open

    def slow(self: ModelOptions, **how: object) -> Segmenter:
        clock.now_s += 1000
        return opened(self, **how)

    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(ModelOptions, "open", slow)
    monkeypatch.setattr(chunk.time, "perf_counter", lambda: clock.now_s)
    (found,) = find_recordings([str(fleet / "motion.avi")])
    options = ChunkOptions(out=tmp_path, model=ModelOptions(model, 1), model_sha256="0" * 64)
    with ChunkSegmenter(options) as segment_chunk:
        result = segment_chunk(plan(found, 10)[0])
    assert (result.frames, result.seconds) == (10, 0.0)
    assert clock.now_s == 1000
