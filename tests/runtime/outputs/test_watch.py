from __future__ import annotations

import numpy as np
import pytest

from runtime.base.flags import run_command
from runtime.errors import ConfigError
from runtime.frame import Frame, Segmentation
from runtime.loop import Step
from runtime.outputs import JsonLines, MaskFolder, Page, Recording, SnapshotFolder, Window
from runtime.outputs.background import Background
from runtime.outputs.options import OutputOptions
from runtime.outputs.watch import RunLog
from runtime.serve.address import Address


def test_summary_counts_frames_over_the_whole_time():
    log = RunLog()
    for index in range(3):
        frame = Frame(np.zeros((8, 8, 3), np.uint8), index, captured_ns=index * 100_000_000)
        segmentation = Segmentation(np.zeros((8, 8), np.uint8), {})
        latency_ms = {"network": 10.0 + index, "total": 20.0}
        log.add(Step(frame, segmentation, latency_ms, frame.captured_ns + 50_000_000, dropped=index))
    summary = log.summary()
    assert (summary.frames, summary.fps, summary.dropped) == (3, 3 / 0.25, 2)
    assert summary.latency_ms["network"] == {"p50": 11.0, "p90": 12.0, "p99": 12.0, "max": 12.0}
    assert "3 frames, 12.0 frames/s, 2 dropped" in summary.as_text()


def test_summary_of_nothing():
    summary = RunLog().summary()
    assert (summary.frames, summary.fps, summary.latency_ms) == (0, 0.0, {})
    assert summary.as_text() == "0 frames, 0.0 frames/s, 0 dropped"


def options(*argv: str) -> OutputOptions:
    taken: list[OutputOptions] = []
    assert run_command("a.command", "Does something.", OutputOptions, taken.append, argv) == 0
    return taken[0]


def kinds(*argv: str) -> list[type]:
    made = options(*argv).make()
    return [type(output.inner if isinstance(output, Background) else output) for output in made]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], [Window]),
        (["--headless"], []),
        (["--serve"], [Page]),
        (["--headless", "--save", "out.mp4"], [Recording]),
        (["--save", "out.mp4"], [Window, Recording]),
    ],
)
def test_a_window_is_opened_unless_there_is_no_screen_to_be_expected(argv, expected):
    assert kinds(*argv) == expected


def test_what_writes_to_disks_works_in_the_background():
    argv = [
        "--jsonl",
        "l",
        "--snapshot-every",
        "5",
        "s",
        "--save-masks",
        "m",
        "--save",
        "o.avi",
        "--headless",
    ]
    assert {type(output) for output in options(*argv).make()} == {Background}


def test_the_page_comes_before_the_disks():
    argv = ["--jsonl", "l", "--snapshot-every", "5", "s", "--save-masks", "m", "--save", "o.avi", "--serve"]
    assert kinds(*argv) == [Page, Recording, MaskFolder, SnapshotFolder, JsonLines]


def test_the_page_is_on_loopback_where_no_address_is_given():
    assert options("--serve").serve == Address("127.0.0.1", 8080)


def test_the_token_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("EDGESEG_TOKEN", "a-token-of-the-tests")
    assert kinds("--serve", "0.0.0.0:0") == [Page]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"save_what": "mask"}, "expected --save FILE too"),
        ({"jsonl_masks": "rle"}, "expected --jsonl FILE too"),
        ({"token": "x" * 20}, "expected --serve HOST:PORT too"),
        ({"alpha": 2.0}, "alpha: expected a number from 0 to 1, got 2.0"),
    ],
)
def test_options_that_make_no_sense(wrong, said):
    with pytest.raises(ConfigError, match=said):
        OutputOptions(**wrong)
