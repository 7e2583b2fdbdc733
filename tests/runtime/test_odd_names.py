"""Names that are not UTF-8, that steer a terminal, or that hold a pattern's characters: whole commands.

OpenCV ends the process at a name that is not UTF-8, so every case runs in a child.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import SourceError
from runtime.sources.opening import open_source
from runtime.sources.recorded import ImageFiles

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "runtime" / "assets" / "synthetic.avi"
ODD = [
    b"caf\xe9",
    b"\xff\xfe\x80",
    b"evil\x1b[2J",
    b"\xe2\x80\xaetxt",
    "路面".encode(),
    b"a b'c\"$(x)",
    b"12:30",
]
NOT_MAC = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are bytes on Linux only")


def camera(*arguments: bytes | str | Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "runtime.camera", "--headless", "--max-frames", "2", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False)


def named(folder: Path, name: bytes, suffix: str) -> Path:
    """Return a path in a folder of an odd name too."""
    inside = folder / os.fsdecode(name)
    inside.mkdir(exist_ok=True)
    return inside / (os.fsdecode(name) + suffix)


def is_clean(said: bytes) -> bool:
    return all(line.isprintable() for line in said.decode().replace("\t", " ").split("\n"))


@NOT_MAC
@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_pictures_videos_and_models_of_any_name_are_read(tmp_path, tiny_onnx, name):
    picture, video, model = (named(tmp_path, name, suffix) for suffix in (".png", ".avi", ".onnx"))
    picture.write_bytes(cv2.imencode(".png", np.full((48, 64, 3), 90, np.uint8))[1].tobytes())
    shutil.copy(CLIP, video)
    shutil.copy(tiny_onnx, model)
    for source in (picture, video):
        ran = camera("--model", model, "--source", source)
        assert ran.returncode == 0, ran.stderr
        assert is_clean(ran.stdout + ran.stderr)


@NOT_MAC
@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_recordings_lines_and_pictures_of_any_name_are_written(tmp_path, tiny_onnx, name):
    video, lines, masks = (named(tmp_path, name, suffix) for suffix in (".avi", ".jsonl", ".masks"))
    ran = camera(
        "--model",
        tiny_onnx,
        "--source",
        "synthetic",
        "--save",
        video,
        "--jsonl",
        lines,
        "--save-masks",
        masks,
    )
    assert ran.returncode == 0, ran.stderr
    assert is_clean(ran.stdout + ran.stderr)
    assert video.stat().st_size > 1000
    assert len(list(masks.iterdir())) == 2
    for line in lines.read_bytes().splitlines():
        json.loads(line)


@NOT_MAC
@pytest.mark.parametrize(
    "spec", [b"http://127.0.0.1:9/caf\xe9.mp4", b"rtsp://127.0.0.1:9/\xff", b"/dev/vid\xe9o0", b"no\xe9.mp4"]
)
def test_other_bytes_where_none_can_be_are_refused_with_a_word(tiny_onnx, spec):
    ran = camera("--model", tiny_onnx, "--source", spec)
    assert ran.returncode == 1
    assert ran.stderr.startswith(b"error: ")
    assert is_clean(ran.stderr)


@pytest.mark.parametrize("name", ["run[1]", "a?b", "c*d", "[x]"])
def test_a_folder_whose_name_looks_like_a_pattern(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(SourceError, match="got a folder") as caught:
        open_source(str(folder))
    advice = str(caught.value).split("'")[-2]
    with open_source(advice) as source:
        assert isinstance(source, ImageFiles)
        assert len(list(source)) == 2


@pytest.mark.parametrize("pattern", ["run[1]/*.png", "run[1]/a[2]/*.png"])
def test_a_pattern_in_a_folder_that_looks_like_one_gets_the_right_advice(tmp_path, pattern):
    folder = (tmp_path / pattern).parent
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "0.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(SourceError, match="exists, but") as caught:
        open_source(str(tmp_path / pattern))
    with open_source(str(caught.value).split("'")[-2]) as source:
        assert len(list(source)) == 1


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    path = tmp_path / "[0]*?.png"
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    with open_source(str(path)) as source:
        assert len(list(source)) == 1
