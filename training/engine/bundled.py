"""The checkpoints that come with edgeseg, to fine-tune, to teach and to export, by name."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parents[1] / "weights"


def bundled_names() -> list[str]:
    """Return the names of the checkpoints in this installation."""
    return sorted(path.stem for path in WEIGHTS.glob("*.pt"))


def checkpoint_file(given: str | Path) -> Path:
    """Return the path of a checkpoint that a user named: a file's, or a bundled one's, as in "camvid-s".

    A file of that name in the working directory comes first. What is neither is returned as it is, for
    `load_checkpoint` to refuse.
    """
    path = Path(given)
    if not path.exists() and str(given) in bundled_names():
        return WEIGHTS / f"{given}.pt"
    return path
