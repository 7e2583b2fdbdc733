import json
import xml.etree.ElementTree as ET

import pytest

from benchmarks.machine.description import this_machine
from benchmarks.stream import main
from benchmarks.timing import stream


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(stream, "machine_with_noise", lambda threads: this_machine())
    monkeypatch.setattr(stream, "CAPACITY_FRAMES", 5)


def test_command_writes_a_picture_and_every_mask(quick, tiny_onnx, tmp_path, capsys):
    out = tmp_path / "out"
    flags = ["--rates", "0.01", "4", "--duration", "0.05s", "--threads", "1", "--out", str(out)]
    assert main(["--model", str(tiny_onnx), *flags, "--json"]) == 0
    printed = capsys.readouterr().out
    report = json.loads(printed)
    assert printed == (out / "stream.json").read_text() + "\n"
    assert [rate["times_capacity"] for rate in report["rates"]] == [0.01, 4.0]
    for rate in report["rates"]:
        assert rate["frames"] == len(rate["masks"]) + rate["dropped"]
        assert 0 < rate["age_ms"]["p50"] <= rate["age_ms"]["p99"] <= rate["age_ms"]["max"]
    assert report["capacity_after_fps"] > 0
    picture = ET.parse(out / "ages.svg")
    assert "4× capacity" in "".join(picture.getroot().itertext())


def test_command_prints_a_row_a_rate_and_the_next_command(quick, tiny_onnx, tmp_path, capsys):
    flags = ["--rates", "1", "--duration", "0.05s", "--threads", "1", "--out", str(tmp_path)]
    assert main(["--model", str(tiny_onnx), *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["source", "frames/s", "masks/s", "dropped"]
    assert lines[1].startswith("1x ")
    assert lines[-1] == f"next: python -m benchmarks.accuracy --model {tiny_onnx} --data synthetic"


def test_a_folder_that_cannot_be_written_does_not_lose_the_measurement(quick, tiny_onnx, tmp_path, capsys):
    (tmp_path / "file").touch()
    flags = ["--rates", "1", "--duration", "0.05s", "--out", str(tmp_path / "file")]
    assert main(["--model", str(tiny_onnx), *flags]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("source ")
    assert "expected a file that can be written" in captured.err
