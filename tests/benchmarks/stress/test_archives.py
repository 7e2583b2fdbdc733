"""Archives on Ray: the same bytes as without, whoever is killed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks.archive import main, report_text
from benchmarks.stress import archives
from benchmarks.stress.archives import Kill, Work, measure_kills
from benchmarks.timing.archives import ArchiveConfig, measure_archive, write_recording
from runtime import archive
from runtime.network.options import ModelOptions

pytestmark = pytest.mark.skipif(
    find_spec("ray") is None or not sys.platform.startswith("linux"), reason="needs the extra archive"
)


@pytest.fixture
def work(tmp_path: Path, tiny_onnx: Path) -> Work:
    """60 chunks of 10 tiny frames."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
    (tmp_path / "recordings").mkdir()
    write_recording(tmp_path / "recordings/drive.avi", (noise[number % 40] for number in range(600)))
    flags = ("--model", str(tiny_onnx), "--threads", "1", "--chunk-frames", "10", "--no-masks")
    return Work(tmp_path / "recordings", flags)


def test_a_kill_costs_nothing_but_time(work):
    told: list[str] = []
    kills = measure_kills(work, 1, struck=("a worker", "all"), show=told.append)
    assert [(kill.struck, kill.chunks, kill.problem) for kill in kills] == [
        ("a worker", 60, ""),
        ("all", 60, ""),
    ]
    worker, everyone = kills
    assert 0 < worker.there < 60
    assert everyone.there + everyone.again == 60
    assert len(told) == 2


def test_a_chunk_that_is_missing_is_found(work, monkeypatch, tmp_path):
    whole = {f"shards/{number}": b"" for number in range(3)}
    held = iter([whole, whole, {"shards/0": b"", "shards/9": b""}])
    monkeypatch.setattr(archives, "shards_of", lambda out: next(held))
    monkeypatch.setattr(archives, "report_of", lambda process: {"chunks": 0})
    monkeypatch.setattr(Work, "start", lambda self, out, *flags: None)

    class NoCluster:
        address = ""

        def workers(self):
            return []

    kill = archives._strike("a worker", work, NoCluster(), tmp_path, whole, 1)  # type: ignore[arg-type]
    assert kill.problem == "2 chunks are missing, 1 are too many, others differ"


def test_a_lost_chunk_is_an_error_of_the_command(monkeypatch, capsys):
    lost = Kill("all", chunks=60, there=7, again=52, problem="1 chunks are missing")
    monkeypatch.setattr("benchmarks.timing.archives.measure_kills", lambda *_, **__: [lost])
    flags = ["--frames", "20", "--rounds", "0", "--kills", "1", "--memory-frames", "0"]
    assert main(flags) == 1
    out, err = capsys.readouterr()
    assert ["all", "1", "52", "1"] in [line.split() for line in out.splitlines()]
    assert "1 chunks are missing" in err.splitlines()[-1]


def test_memory_and_rates_are_measured(tiny_onnx, monkeypatch):
    monkeypatch.setattr(Work, "finish", finish_without_ray)
    config = ArchiveConfig(ModelOptions(tiny_onnx), frames=40, rounds=1, kills=0, memory_frames=2000)
    report = measure_archive(config)
    assert [rate.workers for rate in report.rates] == [1, 2]
    assert report.speed_up is not None
    cost = report.cost
    assert min(cost.decode, cost.resize, cost.network, cost.mask, cost.numbers) > 0
    assert f"{1e3 / cost.total:.0f} frames/s a core" in report_text(report)
    for workers in (1, 2):
        share, ratio = report.network_share(workers), report.bare_ratio(workers)
        assert share is not None
        assert ratio is not None
        assert 0 < share < 1
        assert ratio > 0
    (line,) = [line for line in report_text(report).splitlines() if line.startswith("two workers over one")]
    assert f"two threads: {report.bare_ratio(2):.3f}" in line
    assert report.memory is not None
    assert min(report.memory.early, report.memory.late) > 0


def finish_without_ray(self: Work, out: Path, *flags: str) -> dict[str, int]:
    return archives.report_of(self.start(out, "--workers", "0"))


def test_a_cluster_that_is_not_there_is_one_line(work, tmp_path, capsys):
    flags = [str(work.recordings), "--out", str(tmp_path / "out"), *work.flags]
    assert archive.main([*flags, "--workers", "2", "--address", "127.0.0.1:9"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: address: expected a Ray cluster at 127.0.0.1:9, got [Errno 111]")
