"""Lets a network teach with what its layers say: `python -m export.features seg.onnx --frames DIR`."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from export.graph.features import COMPONENTS, STRIDES, add_features
from runtime.base.codec import to_plain
from runtime.base.flags import flag, run_command
from runtime.sources import open_recorded


@dataclass(frozen=True)
class CommandOptions:
    """What the command line asks for."""

    model: Path = flag("ONNX file of export.to_onnx or export.adapt", name="model")
    frames: str = flag("images or video from which the components are taken", metavar="SOURCE")
    every: int = flag("take one frame in so many", default=1, at_least=1)
    limit: int = flag("take so many frames at most", default=128, at_least=8)
    layer: tuple[str, ...] = flag(
        f"tensor inside that speaks, one for each of the strides {' and '.join(map(str, STRIDES))}; none for "
        "the last of the widest",
        default=(),
        repeated=True,
        metavar="NAME",
    )
    output: Path | None = flag(
        "file to write", default=None, unset="the model's name with -features", name=("-o", "--output")
    )
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: CommandOptions) -> None:
    """Add the features and print what they are."""
    with open_recorded(options.frames, "frames") as frames:
        chosen = itertools.islice(frames, 0, options.every * options.limit, options.every)
        images = [frame.image_bgr for frame in chosen]
    path, layers = add_features(options.model, options.output, images, options.layer)
    if options.as_json:
        print(json.dumps({"path": str(path), "layers": to_plain(layers)}, indent=1))
        return
    for stride, layer in zip(STRIDES, layers, strict=True):
        channels, rows, columns = layer.shape
        print(
            f"features_{stride}: {COMPONENTS} components of {layer.name} ({channels} channels, "
            f"{columns}x{rows}), {layer.explained:.0%} of its variance"
        )
    print(
        f"{path}: masks as before, features beside them\n\nnext: python -m training.label --model "
        f"{quote(str(path))} --source DRIVE --out DIR"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Let an ONNX file also give what its layers say, for others to learn from."
    return run_command("export.features", description, CommandOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
