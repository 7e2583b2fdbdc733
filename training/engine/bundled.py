"""The checkpoints that come with edgeseg, to fine-tune, to teach and to export, by name.

A checkout holds them in `weights/`; elsewhere the package `edgeseg-weights`, made from that folder, brings
them. A wheel of edgeseg has none, since a robot that runs networks needs none.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_PACKAGE = "edgeseg_weights"


def _folder() -> Path:
    """Return where the checkpoints lie; a folder that does not exist where there are none."""
    checkout = Path(__file__).parents[2] / "weights" / _PACKAGE
    spec = None if checkout.is_dir() else find_spec(_PACKAGE)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else checkout


WEIGHTS = _folder()


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


def where_to_look() -> str:
    """Return the advice for a checkpoint that was not found."""
    if names := bundled_names():
        return f"check the path, or name a bundled one ({', '.join(names)})"
    return (
        "check the path; the bundled ones are in a package of their own, made from edgeseg's checkout: "
        "pip install ./weights"
    )
