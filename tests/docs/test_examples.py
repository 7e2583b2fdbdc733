"""The examples of the documentation run; the drive is shorter here than in its film."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def drive_by_scan(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "examples"))
    import drive_by_scan

    yield drive_by_scan
    del sys.modules["drive_by_scan"]


def test_a_robot_stays_on_a_rendered_street_by_its_scan_alone(drive_by_scan, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["drive_by_scan.py", "--frames", "50"])
    assert drive_by_scan.main() == 0
    metres, seconds = map(int, re.findall(r"(\d+) (?:m|s) ", capsys.readouterr().out))
    assert metres > 25
    assert seconds == 10


def test_a_robot_that_does_not_steer_leaves_the_road(drive_by_scan, monkeypatch, capsys):
    def ahead(frames):
        for frame_bgr in frames:
            yield np.zeros(frame_bgr.shape[:2], np.uint8), 4.0, 0.2

    monkeypatch.setattr(drive_by_scan, "steps", ahead)
    monkeypatch.setattr(sys, "argv", ["drive_by_scan.py", "--frames", "60"])
    assert drive_by_scan.main() == 1
    assert "left the road after" in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(cv2, "Animation"), reason="OpenCV before 4.11 writes no films")
def test_the_drive_can_be_filmed(drive_by_scan, monkeypatch, tmp_path):
    film = tmp_path / "drive.gif"
    monkeypatch.setattr(sys, "argv", ["drive_by_scan.py", "--frames", "6", "--gif", str(film)])
    assert drive_by_scan.main() == 0
    assert film.read_bytes()[:4] == b"GIF8"


def test_the_film_in_the_documentation_is_small():
    assert (DOCS / "drive.gif").stat().st_size < 1_500_000
