import numpy as np
import onnx
import pytest

from benchmarks.timing.scaling import BATCHES, ROUNDS, BatchPoint, scale, thread_counts
from runtime.contract import METADATA_KEY

IMAGES_BGR = [np.full((48, 64, 3), level, np.uint8) for level in (0, 100, 200)]


@pytest.fixture
def dynamic_onnx(tmp_path, tiny, write_tiny_onnx):
    contract = tiny.tiny_contract().with_input(is_dynamic=True, size_multiple=8)
    path = write_tiny_onnx(tmp_path / "dynamic.onnx", contract=contract)
    model = onnx.load(path)
    for size, name in zip(model.graph.input[0].type.tensor_type.shape.dim, ("n", "h", "w"), strict=False):
        size.dim_param = name
    onnx.save(model, path)
    assert any(prop.key == METADATA_KEY for prop in model.metadata_props)
    return path


@pytest.mark.parametrize(
    ("cpus", "default", "counts"),
    [(1, 1, (1,)), (2, 2, (1, 2)), (2, 1, (1, 2)), (6, 3, (1, 2, 3, 4, 6)), (16, 4, (1, 2, 4, 8, 16))],
)
def test_thread_counts(cpus, default, counts):
    assert thread_counts(cpus, default) == counts


def test_every_number_of_threads_gets_its_frames(tiny_onnx):
    scaling = scale(tiny_onnx, [1, 2], 1, IMAGES_BGR, frames=ROUNDS + 1)
    assert [point.threads for point in scaling.threads] == [1, 2]
    for point in scaling.threads:
        assert 0 < point.total_ms["p50"] <= point.total_ms["max"]
        assert point.cpu.ms_a_frame > 0


def test_a_file_for_one_image_says_why_there_are_no_batches(tiny_onnx):
    scaling = scale(tiny_onnx, [1], 1, IMAGES_BGR, frames=1)
    assert scaling.batches == ()
    assert scaling.why_no_batches == "this file takes one image a run; export it with --dynamic"


def test_a_file_for_any_number_runs_batches(dynamic_onnx):
    scaling = scale(dynamic_onnx, [1], 1, IMAGES_BGR, frames=ROUNDS)
    assert tuple(point.batch for point in scaling.batches) == BATCHES
    assert all(point.network_ms["p50"] > 0 for point in scaling.batches)
    assert scaling.why_no_batches == ""


def test_a_batch_is_shared_by_its_images():
    assert BatchPoint(4, {"p50": 10.0}).ms_an_image == 2.5
