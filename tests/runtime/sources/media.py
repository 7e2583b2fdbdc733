"""Small videos of every container, with the faults that strangers' files have."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

SIZE_WH = (64, 48)


def picture(number: int) -> np.ndarray:
    """A grey picture that tells its number, up to 60, and enough noise to take some bytes."""
    noise = np.random.default_rng(number).integers(0, 4, (SIZE_WH[1], SIZE_WH[0], 3), dtype=np.uint8)
    return np.asarray(noise + number * 4, np.uint8)


def number_of(image_bgr: np.ndarray) -> int:
    return round((float(image_bgr.mean()) - 1.5) / 4)


def write_cv2(path: Path, frames: int, fps: float = 25.0) -> Path:
    fourcc = {".avi": "MJPG", ".mp4": "mp4v", ".mkv": "mp4v"}[path.suffix]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), fps, SIZE_WH)
    for number in range(frames):
        writer.write(picture(number % 60))
    writer.release()
    return path


def write_av(
    path: Path,
    times_ms: Sequence[int],
    *,
    codec: str = "mpeg4",
    kind: str | None = None,
    options: dict[str, str] | None = None,
    audio_s: float = 0.0,
) -> Path:
    """Write a video with PyAV, each frame at its own time; skips the test without PyAV."""
    av: Any = pytest.importorskip("av")
    with av.open(str(path), "w", format=kind, options=options or {}) as file:
        video = file.add_stream(codec, rate=30)
        video.width, video.height = SIZE_WH
        video.pix_fmt = "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        video.codec_context.gop_size = 5
        video.bit_rate = 4_000_000
        audio = (
            file.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48000) if audio_s else None
        )
        for number, time_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(picture(number), format="bgr24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if audio is not None:
            for number in range(int(audio_s * 48000 / 1024)):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                silence.sample_rate, silence.pts, silence.time_base = 48000, number * 1024, Fraction(1, 48000)
                file.mux(audio.encode(silence))
            file.mux(audio.encode(None))
    return path
