"""Draws the clip that `--source synthetic` plays: `python -m tests.training.streets.draw_clip`.

The runtime plays it without `training`. Motion JPEG in AVI is what every OpenCV build reads, with FFmpeg or
without. The file itself says which commit drew it; `test_clip.py` draws its frames again and compares.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2

from runtime.base.files import replacing
from training.streets import Drive
from training.streets.scenes import FRAMES_PER_SECOND

ROOT = Path(__file__).parents[3]
CLIP = ROOT / "runtime" / "assets" / "synthetic.avi"
SEED, SIZE_HW, FRAMES = 0, (360, 480), 90
_QUALITY = 10  # of OpenCV's own encoder; 18 kB a frame, half of it the noise of the sensor


def draw_clip(path: Path, comment: str) -> None:
    """Render the drive into a Motion JPEG file that carries a comment."""
    drive = Drive(SEED, SIZE_HW)
    with replacing(path) as part:
        codec = cv2.VideoWriter.fourcc(*"MJPG")
        writer = cv2.VideoWriter(
            str(part), cv2.CAP_OPENCV_MJPEG, codec, FRAMES_PER_SECOND, (SIZE_HW[1], SIZE_HW[0])
        )
        writer.set(cv2.VIDEOWRITER_PROP_QUALITY, _QUALITY)
        for index in range(FRAMES):
            writer.write(drive.frame(index).image_bgr)
        writer.release()
        part.write_bytes(_with_comment(part.read_bytes(), comment))


def _with_comment(avi: bytes, comment: str) -> bytes:
    """Append RIFF's chunk for comments, LIST INFO with ICMT, inside the file's outermost chunk."""
    text = comment.encode("ascii") + b"\0"
    text += b"\0" * (len(text) % 2)
    entry = b"INFOICMT" + len(text).to_bytes(4, "little") + text
    chunk = b"LIST" + len(entry).to_bytes(4, "little") + entry
    size = int.from_bytes(avi[4:8], "little") + len(chunk)
    return avi[:4] + size.to_bytes(4, "little") + avi[8:] + chunk


def main(argv: Sequence[str] = ()) -> int:
    """Draw the clip into the package, or into the path given."""
    state = {
        name: subprocess.check_output(["git", "rev-parse", "--short=12", what], cwd=ROOT, text=True).strip()
        for name, what in {"commit": "HEAD", "streets": "HEAD:training/streets"}.items()
    }
    comment = f"edgeseg synthetic drive, seed {SEED}; drawn by commit {state['commit']}, " + (
        f"whose training/streets is tree {state['streets']}"
    )
    draw_clip(Path(argv[0]) if argv else CLIP, comment)
    print(comment)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
