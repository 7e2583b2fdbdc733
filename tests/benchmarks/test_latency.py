import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.latency import main
from benchmarks.machine.description import this_machine
from benchmarks.machine.yardstick import Noise
from benchmarks.timing import latency, stages
from benchmarks.timing.frames import STAGES

QUICK = ["--size", "90", "120", "--frames", "3", "--warmup", "1", "--threads", "1", "--cold-starts", "0"]


@pytest.fixture(autouse=True)
def short_noise(monkeypatch):
    """No test needs two seconds of it; `test_yardstick` tries the real one."""
    noisy = replace(this_machine(), noise=Noise(20, 5.0, 25.0, 90.0, 0.0, 40.0))
    monkeypatch.setattr(latency, "machine_with_noise", lambda threads: noisy)


def test_json_is_all_of_stdout_and_has_every_stage(tiny_onnx, capsys):
    assert main(["--model", str(tiny_onnx), *QUICK, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["latency_ms"]) == list(STAGES)
    for row in report["latency_ms"].values():
        assert list(row) == ["p50", "p90", "p99", "p99.9", "max"]
        assert 0 <= row["p50"] <= row["p90"] <= row["p99"] <= row["p99.9"] <= row["max"]
    assert report["fps"] > 0
    assert report["network_time_gmac"] > 0
    assert (report["frames"], report["warmup"], report["threads"], report["provider"]) == (3, 1, 1, "cpu")
    assert report["frame_size_hw"] == [90, 120]
    assert report["machine"]["versions"]["onnxruntime"]
    assert report["model"]["sha256"] == hashlib.sha256(tiny_onnx.read_bytes()).hexdigest()
    assert report["model"]["bytes"] == tiny_onnx.stat().st_size


def test_text_shows_the_stages_and_ends_with_the_next_command(tiny_onnx, capsys):
    assert main(["--model", str(tiny_onnx), *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Latency of tiny"
    assert lines[1].split() == ["ms", "p50", "p90", "p99", "p99.9", "max"]
    assert [line.split()[0] for line in lines[2:8]] == [*STAGES, "jitter"]
    assert lines[-1] == f"next: python -m benchmarks.stream --model {tiny_onnx}"


def test_markdown_holds_the_table_and_the_machine(tiny_onnx, tmp_path, capsys):
    target = tmp_path / "reports" / "latency.md"
    assert main(["--model", str(tiny_onnx), *QUICK, "--json", "--markdown", str(target)]) == 0
    text = target.read_text()
    machine = json.loads(capsys.readouterr().out)["machine"]
    assert (
        "| ms | p50 | p90 | p99 | p99.9 | max |\n| --- | ---: | ---: | ---: | ---: | ---: |\n| resize |"
        in text
    )
    assert "| network |" in text
    assert machine["cpu"] in text


def test_markdown_that_cannot_be_written_is_a_known_error(tiny_onnx, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--model", str(tiny_onnx), *QUICK, "--markdown", str(tmp_path / "file" / "a.md")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert "network" in captured.out  # the measurement is not lost with it


def test_all_parts_are_in_json_text_and_markdown(tiny_onnx, capsys, tmp_path):
    target = tmp_path / "latency.md"
    flags = ["--cold-starts", "1", "--duration", "0.05s", "--scaling", "--json", "--markdown", str(target)]
    assert main(["--model", str(tiny_onnx), *QUICK, *flags]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert list(report["cold_start"]["samples_ms"]) == ["start", "import", "open", "first mask", "total"]
    assert report["sustained"][-1]["frames"] > 0
    assert report["scaling"]["threads"][0]["threads"] == 1
    assert report["scaling"]["why_no_batches"]
    assert report["cpu"]["percent"] > 0
    assert report["energy"]["joules"] or report["energy"]["why_not"]
    assert captured.err.split()[:3] == ["until", "s", "frames"]
    text = target.read_text()
    for title in ("## Cold start: 1 fresh", "## Sustained for", "## Threads", "## The machine"):
        assert title in text
    assert "batches: not measured, this file takes one image a run; export it with --dynamic" in text


def test_a_missing_model_gives_1_and_one_line(tmp_path, capsys):
    assert main(["--model", str(tmp_path / "gone.onnx"), *QUICK, "--json"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "gone.onnx" in captured.err


def test_an_unknown_provider_is_wrong_usage(tiny_onnx):
    with pytest.raises(SystemExit) as stopped:
        main(["--model", str(tiny_onnx), "--provider", "gpu"])
    assert stopped.value.code == 2


def test_stages_of_several_files_are_a_line_a_size_and_a_file(tiny_onnx, monkeypatch, capsys):
    monkeypatch.setattr(stages, "drive_frames", lambda size_hw: [np.zeros((*size_hw, 3), np.uint8)])
    flags = ["--stages", str(tiny_onnx), str(tiny_onnx), "--frames", "2", "--warmup", "0", "--threads", "1"]
    assert main(flags) == 0
    heads, *rows = capsys.readouterr().out.splitlines()[1:8]
    assert heads.split() == ["frames", "model", *STAGES]
    sizes = ["640x480", "1280x720", "1920x1080"]
    assert [row.split()[:2] for row in rows] == [[size, "tiny.onnx"] for size in sizes for _ in range(2)]
    assert all(float(cell) >= 0 for row in rows for cell in row.split()[2:])
    assert main([*flags, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["frames"], report["threads"], len(report["rows"])) == (2, 1, 6)
    assert list(report["rows"][0]["p50_ms"]) == list(STAGES)
