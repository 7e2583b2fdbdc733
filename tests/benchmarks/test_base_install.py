import pytest


@pytest.mark.parametrize(
    "module",
    [
        "benchmarks.accuracy",
        "benchmarks.timing.cold_start",
        "benchmarks.compare",
        "benchmarks.machine.yardstick",
        "benchmarks.timing.first_mask",
        "benchmarks.latency",
        "benchmarks.limits",
        "benchmarks.machine.description",
        "benchmarks.subjects.peer",
        "benchmarks.render.charts",
        "benchmarks.report",
        "benchmarks.soak",
        "benchmarks.stream",
        "training.data",
        "training.evaluation.metrics",
        "training.evaluation.measure",
    ],
)
def test_measuring_needs_only_the_base_install(module, heavy_modules_loaded_by):
    assert heavy_modules_loaded_by(module) == []


def test_a_module_that_needs_more_is_caught(tmp_path, heavy_modules_loaded_by):
    (tmp_path / "leaky.py").write_text("import benchmarks.machine.description\nimport onnx\n")
    assert heavy_modules_loaded_by("leaky", tmp_path) == ["onnx"]
