"""Recordings of every kind, and the archive's command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from runtime import archive
from runtime.archives.shards import FORMATS, read_shard
from runtime.outputs.containers import has_pyav
from tests.runtime.sources.media import picture, write_av, write_cv2


def write_images(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        content = cv2.imencode(".png", picture(number % 60))[1].tobytes()
        (folder / f"frame_{number}.png").write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recordings: 24 frames each, but 40 in the video with an index."""
    folder = tmp_path_factory.mktemp("fleet")
    for name, frames in (("indexed.mp4", 40), ("plain.mkv", 24)):
        if has_pyav():
            write_av(folder / name, [40 * number for number in range(frames)])
        else:  # read as the base install reads it, from the start
            write_cv2(folder / name, frames)
    write_cv2(folder / "motion.avi", 24, fps=20.0)
    write_images(folder / "stills", 24)
    (folder / "notes.md").write_text("no recording")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, write_tiny_onnx: Callable[..., Path]) -> Path:
    return write_tiny_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx")


def shards_of(out: Path) -> dict[str, bytes]:
    """Return the content of every shard by its name."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted((out / "shards").rglob("*"))
        if path.suffix in FORMATS.values() and not path.name.startswith(".")
    }


def frames_of(out: Path) -> dict[str, list[int]]:
    """Return the frames' numbers of each recording, as the manifest's shards hold them."""
    manifest = json.loads((out / "manifest.json").read_text())
    return {
        Path(one["name"]).name: [
            number
            for shard in one["shards"]
            for number in read_shard(out / shard["file"], ("frame",)).columns["frame"]
        ]
        for one in manifest["recordings"]
    }


@pytest.fixture
def run(model: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, object]]:
    """Run the command in this process; return its report, with the exit code and what it said."""

    def go(*arguments: str | Path) -> dict[str, object]:
        flags = ["--model", model, "--workers", "0", "--threads", "1", "--chunk-frames", "10", "--json"]
        code = archive.main([*map(str, flags), *map(str, arguments)])
        said = capsys.readouterr()
        return {"code": code, "said": said.err, **(json.loads(said.out) if said.out else {})}

    return go
