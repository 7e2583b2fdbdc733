import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime import Frame, Segmenter, bundled_model
from runtime.__main__ import main as edgeseg
from runtime.errors import ConfigError, ContractError, FrameError, ModelLoadError
from runtime.network.session import default_threads
from runtime.segmenter import model_path


def half_blue_half_red(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 255
    image[:, width // 2 :, 2] = 255
    return image


def test_the_public_names_are_these():
    assert runtime.__all__ == [
        "BirdsEye",
        "CameraModel",
        "ConfigError",
        "ContractError",
        "DeadlineSegmenter",
        "EdgesegError",
        "Frame",
        "FrameError",
        "JsonLines",
        "ModelContract",
        "ModelLoadError",
        "Output",
        "OutputError",
        "Outputs",
        "ProviderError",
        "Recording",
        "Segmentation",
        "Segmenter",
        "Source",
        "SourceError",
        "Step",
        "Stream",
        "bundled_model",
        "open_source",
        "run",
    ]
    assert all(hasattr(runtime, name) for name in runtime.__all__)


@pytest.mark.parametrize("size_hw", [(32, 48), (320, 480), (97, 131), (16, 24)])
def test_gives_each_half_of_a_picture_its_class(tiny_onnx, size_hw):
    height, width = size_hw
    with Segmenter(tiny_onnx) as segment:
        mask = segment(half_blue_half_red(height, width)).mask
    assert mask.shape == size_hw
    assert mask.dtype == np.uint8
    assert (mask[:, : width * 2 // 5] == 0).all()
    assert (mask[:, width * 3 // 5 + 1 :] == 2).all()


def test_tells_how_long_each_stage_took(tiny_onnx):
    with Segmenter(tiny_onnx) as segment:
        latency_ms = segment(half_blue_half_red(32, 48)).latency_ms
    assert list(latency_ms) == ["resize", "network", "mask"]
    assert all(milliseconds >= 0 for milliseconds in latency_ms.values())


def test_hands_on_which_frame_it_was(tiny_onnx):
    with Segmenter(tiny_onnx) as segment:
        result = segment(Frame(half_blue_half_red(32, 48), frame_id=7, captured_ns=123))
        bare = segment(half_blue_half_red(32, 48))
    assert (result.frame_id, result.captured_ns) == (7, 123)
    assert (bare.frame_id, bare.captured_ns) == (0, 0)


def test_a_later_call_leaves_an_earlier_mask_alone(tiny_onnx):
    image = half_blue_half_red(64, 64)
    with Segmenter(tiny_onnx) as segment:
        first = segment(image).mask
        second = segment(image[:, ::-1]).mask
    assert not np.shares_memory(first, second)
    assert first[0, 0] == 0
    assert second[0, 0] == 2


def test_leaves_the_frame_alone(tiny_onnx):
    image = half_blue_half_red(32, 48)
    before = image.copy()
    with Segmenter(tiny_onnx) as segment:
        segment(image)
    assert np.array_equal(image, before)


def test_takes_frames_of_changing_size(tiny_onnx):
    with Segmenter(tiny_onnx) as segment:
        for size_hw in ((32, 48), (480, 640), (1, 1), (32, 48)):
            assert segment(np.zeros((*size_hw, 3), np.uint8)).mask.shape == size_hw


def test_shows_its_contract_provider_and_threads(tiny_onnx, tiny):
    with Segmenter(str(tiny_onnx), threads=1) as segment:
        assert segment.contract == tiny.tiny_contract()
        assert (segment.provider, segment.threads) == ("cpu", 1)
    assert Segmenter(tiny_onnx).threads == default_threads()


def test_refuses_frames_after_close_but_closes_twice(tiny_onnx, tiny):
    segment = Segmenter(tiny_onnx)
    segment.close()
    segment.close()
    with pytest.raises(ConfigError, match="closed"):
        segment(half_blue_half_red(32, 48))
    assert segment.contract == tiny.tiny_contract()


@pytest.mark.parametrize("frame", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), None])
def test_refuses_a_frame_that_is_no_bgr_picture_and_goes_on(tiny_onnx, frame):
    with Segmenter(tiny_onnx) as segment:
        with pytest.raises(FrameError):
            segment(frame)
        with pytest.raises(FrameError):
            segment(Frame(frame, 0, 0))
        assert segment(half_blue_half_red(32, 48)).mask.shape == (32, 48)


def test_refuses_a_network_that_gives_no_numbers(tmp_path, write_tiny_onnx):
    path = write_tiny_onnx(tmp_path / "nan.onnx", scale=float("nan"))
    with Segmenter(path) as segment, pytest.raises(ContractError, match="finite"):
        segment(half_blue_half_red(32, 48))


def test_threads_may_share_one_segmenter(tiny_onnx):
    images = [np.roll(half_blue_half_red(64, 96), shift, axis=1) for shift in (0, 20, 48, 70)]
    with Segmenter(tiny_onnx) as segment:
        expected = [segment(image).mask for image in images]
        wrong: list[int] = []

        def work(index: int) -> None:
            for _ in range(20):
                if not np.array_equal(segment(images[index]).mask, expected[index]):
                    wrong.append(index)

        workers = [threading.Thread(target=work, args=(index,)) for index in range(len(images))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert wrong == []


def test_a_bundled_model_that_is_not_there_is_named():
    with pytest.raises(ModelLoadError, match="'nobody'"):
        bundled_model("nobody")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, bundled_model()),
        ("camvid-n", bundled_model("camvid-n")),
        (Path("camvid-s-int8"), bundled_model("camvid-s-int8")),
        ("camvid-x", Path("camvid-x")),
        ("models/camvid-n", Path("models/camvid-n")),
        ("camvid-n.onnx", Path("camvid-n.onnx")),
        ("..", Path("..")),
        ("", Path()),
    ],
)
def test_a_model_is_named_by_its_file_or_as_bundled(tmp_path, monkeypatch, given, found):
    monkeypatch.chdir(tmp_path)
    assert model_path(given) == found


def test_a_file_wins_over_a_bundled_name(tmp_path, monkeypatch, write_tiny_onnx):
    monkeypatch.chdir(tmp_path)
    write_tiny_onnx(tmp_path / "camvid-n")
    with Segmenter("camvid-n") as segment:
        assert segment.contract.name == "tiny"


@pytest.mark.parametrize(
    "command",
    [
        ["latency", "--model", "camvid-n", "--frames", "2", "--warmup", "1", "--cold-starts", "0"],
        ["accuracy", "--model", "camvid-n", "--data", "synthetic", "--limit", "1"],
        ["info", "camvid-n"],
        ["camera", "--model", "camvid-n", "--source", "synthetic", "--headless", "--max-frames", "1"],
    ],
    ids=lambda command: command[0],
)
def test_commands_take_bundled_names(command, capsys):
    assert edgeseg(command) == 0
    assert "camvid-n" in capsys.readouterr().out


def test_opens_the_bundled_model_by_default(monkeypatch, tiny_onnx):
    monkeypatch.setattr("runtime.segmenter.bundled_model", lambda: tiny_onnx)
    with Segmenter() as segment:
        assert segment.contract.name == "tiny"


def test_confidence_is_given_where_it_is_asked_for(tiny_onnx):
    image = half_blue_half_red(48, 64)
    with Segmenter(tiny_onnx) as plain, Segmenter(tiny_onnx, confidence=True) as sure:
        assert plain(image).confidence is None
        result = sure(image)
        assert (result.mask == plain(image).mask).all()
    assert result.confidence.dtype == np.uint8
    assert result.confidence.shape == (48, 64)
    assert result.confidence.min() >= 255 // len(sure.contract.classes)


def test_what_is_not_sure_enough_is_unknown(tiny_onnx):
    image = half_blue_half_red(48, 64)
    with Segmenter(tiny_onnx, unknown_below=1.0) as strict, Segmenter(tiny_onnx, unknown_below=0.0) as lax:
        result = strict(image)
        assert ((result.mask == 255) == (result.confidence < 255)).all()
        assert (lax(image).mask != 255).all()


@pytest.mark.parametrize("below", [-0.1, 1.1, float("nan")])
def test_a_probability_that_cannot_be_is_refused(tiny_onnx, below):
    with pytest.raises(ConfigError, match="unknown_below: expected a probability from 0 to 1"):
        Segmenter(tiny_onnx, unknown_below=below)


FORKED = """
import os, sys, threading
import numpy as np
from runtime import Segmenter
from runtime.errors import ConfigError
segment = Segmenter(sys.argv[1], threads=4)
frame_bgr = np.zeros((64, 96, 3), np.uint8)
segment(frame_bgr)
if "running" in sys.argv:  # another thread is in the network, and holds the lock, at the moment of the fork
    segment._lock.acquire()
child = os.fork()
if child == 0:
    try:
        segment(frame_bgr)
    except ConfigError as error:
        print(error, flush=True)
    if "close" in sys.argv:
        segment.close()
    elif "forget" in sys.argv:
        del segment
    sys.exit(0)  # with all of the interpreter's end
_, status = os.waitpid(child, 0)
if "running" in sys.argv:
    segment._lock.release()
segment(frame_bgr)
print("parent goes on", os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("how", ["close", "forget", "keep"])
@pytest.mark.parametrize("when", ["idle", "running"])
def test_a_forked_child_gets_a_clear_error_and_ends(tiny_onnx, how, when):
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(tiny_onnx), how, when],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    error, end = done.stdout.splitlines()
    assert "expected the process that opened it, got a fork of it" in error
    assert "open a Segmenter in each process" in error
    assert (end, done.stderr, done.returncode) == ("parent goes on 0", "", 0)
