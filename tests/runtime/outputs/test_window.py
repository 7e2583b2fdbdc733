from __future__ import annotations

import dataclasses
import sys

import cv2
import numpy as np
import pytest

from runtime.errors import OutputError
from runtime.ground import CameraModel
from runtime.ground.drawing import GroundSight
from runtime.ground.options import GridOptions
from runtime.outputs import OutputState, Window
from runtime.outputs import window as window_module

needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how Linux names its screens")


@needs_linux
def test_window_without_a_screen(monkeypatch, stream):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(OutputError, match="neither DISPLAY nor WAYLAND_DISPLAY is set; run without a window"):
        Window().open(stream)


@needs_linux
def test_window_with_a_screen_that_does_not_answer(monkeypatch, stream):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":4711")
    with pytest.raises(OutputError, match="found none; run without a window"):
        Window().open(stream)


class FakeHighGui:
    """Stands for OpenCV's window functions; `keys` are pressed one a frame."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keys: list[int]) -> None:
        self.keys = keys
        self.visible = 1.0
        self.open_windows: set[str] = set()
        self.shown: np.ndarray | None = None
        monkeypatch.setattr(window_module, "_check_display", lambda: None)
        monkeypatch.setattr(
            window_module.cv2, "namedWindow", lambda title, flags: self.open_windows.add(title)
        )
        monkeypatch.setattr(window_module.cv2, "resizeWindow", lambda *_: None)
        monkeypatch.setattr(window_module.cv2, "imshow", self.show)
        monkeypatch.setattr(window_module.cv2, "waitKey", lambda delay_ms: self.keys.pop(0))
        monkeypatch.setattr(window_module.cv2, "getWindowProperty", lambda title, prop: self.visible)
        monkeypatch.setattr(window_module.cv2, "destroyAllWindows", self.open_windows.clear)

    def show(self, title: str, image_bgr: np.ndarray) -> None:
        self.shown = image_bgr


@pytest.mark.parametrize(("key", "goes_on"), [(-1, True), (ord("x"), True), (ord("q"), False), (27, False)])
def test_window_ends_with_q_or_escape(monkeypatch, stream, step, key, goes_on):
    gui = FakeHighGui(monkeypatch, [key])
    with Window() as window:
        window.open(stream)
        taken = step()
        window.take(taken)
        assert (window.state is not OutputState.DONE) is goes_on
        assert gui.open_windows
        assert gui.shown is taken.overlay_bgr
    assert not gui.open_windows


def test_window_shows_the_ground_from_above_beside_the_picture(monkeypatch, stream, step):
    gui = FakeHighGui(monkeypatch, [-1])
    taken = step()
    height, width = taken.segmentation.mask.shape
    camera = CameraModel(width, height, 40.0, 40.0, width / 2, height / 2, height_m=1.0, pitch_rad=0.3)
    ground = GroundSight(camera, {0}, GridOptions((0.0, 4.0), (-2.0, 2.0)))
    with Window() as window:
        window.open(dataclasses.replace(stream, ground=ground))
        window.take(taken)
        assert gui.shown is not None
        assert gui.shown.shape == (height, width + round(height / 1.06), 3)
        assert np.array_equal(gui.shown[:, :width], taken.overlay_bgr)


def test_window_ends_with_its_close_button(monkeypatch, step):
    gui = FakeHighGui(monkeypatch, [-1])
    gui.visible = 0.0
    with Window() as window:
        window.take(step())
        assert window.state is OutputState.DONE


def test_window_ends_when_opencv_forgot_it(monkeypatch, step):
    def forgotten(*_: object) -> float:
        raise cv2.error("NULL guiReceiver")

    FakeHighGui(monkeypatch, [-1])
    monkeypatch.setattr(window_module.cv2, "getWindowProperty", forgotten)
    with Window() as window:
        window.take(step())
        assert window.state is OutputState.DONE


def test_opencv_without_windows(monkeypatch, step):
    def refuse(*_: object) -> None:
        raise cv2.error("The function is not implemented")

    FakeHighGui(monkeypatch, [])
    monkeypatch.setattr(window_module.cv2, "namedWindow", refuse)
    with Window() as window, pytest.raises(OutputError, match="built without windows"):
        window.take(step())
