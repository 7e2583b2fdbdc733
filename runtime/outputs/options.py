"""Which outputs a command opens: the flags of `runtime.camera`'s outputs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runtime.base.flags import check_fields, flag, nested
from runtime.base.secret_files import read_secret
from runtime.errors import ConfigError, OutputError
from runtime.ground.options import GroundOptions
from runtime.outputs.background import Background
from runtime.outputs.foxglove import Foxglove
from runtime.outputs.jsonl import JsonLines, MaskFormat
from runtime.outputs.output import Output
from runtime.outputs.page import Page
from runtime.outputs.pictures import MaskFolder, SnapshotFolder
from runtime.outputs.segments import SegmentOptions
from runtime.outputs.video import Recording, View
from runtime.outputs.window import Window
from runtime.serve.address import Address

TOKEN_VARIABLE = "EDGESEG_TOKEN"
KINDS = ("window", "serve", "foxglove", "save", "save-masks", "snapshots", "out", "jsonl")
_DEFAULT_ADDRESS = Address("127.0.0.1", 8080)


def _address(text: str) -> Address:
    """Parse HOST:PORT."""
    try:
        return Address.parse(text)
    except OutputError as error:
        raise ValueError(str(error)) from None


@dataclass(frozen=True)
class OutputOptions:
    """What is made of the frames."""

    headless: bool = flag("open no window", default=False)
    save: Path | None = flag("video to record, .mp4, .mkv or .avi", default=None, metavar="FILE")
    segments: SegmentOptions = nested(SegmentOptions)
    require: tuple[str, ...] = flag(
        "outputs whose failure ends the run; others are opened again after a while",
        default=(),
        choices=KINDS,
    )
    save_what: View = flag("what the video shows", default="overlay")
    save_masks: Path | None = flag("folder for a palette PNG of each mask", default=None, metavar="DIR")
    jsonl: Path | None = flag("file for a line of JSON per frame", default=None, metavar="FILE")
    jsonl_masks: MaskFormat = flag("form of the masks in these lines", default="none")
    snapshot_every: tuple[float, Path] | None = flag(
        "write the overlay every S seconds into DIR", default=None, above=0, metavar=("S", "DIR")
    )
    out: Path | None = flag(
        "bag of ROS 2 to write, .mcap: masks and what follows from them, under the names that Nav2 reads",
        default=None,
        metavar="FILE",
    )
    copy_topics: tuple[str, ...] = flag(
        "topics of the bag that is read to copy into that bag; '*' and '?' stand for any characters",
        default=(),
        metavar="TOPIC",
    )
    leave_out: tuple[str, ...] = flag(
        "topics of ours not to write into that bag",
        default=(),
        choices=("mask", "confidence", "label_info", "overlay", "occupancy", "scan", "points", "tf_static"),
    )
    ground: GroundOptions = nested(GroundOptions, group="metres")
    serve: Address | None = flag(
        f"serve a page with the live view, on {_DEFAULT_ADDRESS} if no address is given, and open no window",
        default=None,
        parse=_address,
        metavar="HOST:PORT",
        if_bare=_DEFAULT_ADDRESS,
    )
    foxglove: int | None = flag(
        "port of this machine for a live view in Foxglove",
        default=None,
        at_least=0,
        at_most=65535,
        metavar="PORT",
        unset="none",
    )
    token: str | None = flag(
        "what the page asks for, required unless it is on loopback; other users of this machine see it in "
        f"the list of processes, so rather set {TOKEN_VARIABLE} or --token-file",
        default=None,
        secret=True,
    )
    token_file: Path | None = flag("file with that token in one line", default=None, metavar="FILE")
    alpha: float = flag("share of the class colour in an overlay's pixel", default=0.5, at_least=0, at_most=1)

    def __post_init__(self) -> None:
        """Check the values, and that nothing is asked of an output that is not there."""
        check_fields(self)
        if self.jsonl_masks != "none" and self.jsonl is None:
            raise ConfigError("jsonl_masks: expected --jsonl FILE too, got none; name the file they go to")
        if self.save_what != "overlay" and self.save is None:
            raise ConfigError("save_what: expected --save FILE too, got none; name the video it is about")
        for name in ("token", "token_file"):
            if getattr(self, name) is not None and self.serve is None:
                raise ConfigError(
                    f"{name}: expected --serve HOST:PORT too, got none; add the page it protects"
                )
        if self.token is not None and self.token_file is not None:
            raise ConfigError("token: expected --token or --token-file, got both; leave --token out")
        for name in ("copy_topics", "leave_out"):
            if getattr(self, name) and self.out is None:
                raise ConfigError(f"{name}: expected --out FILE.mcap too, got none; name the bag it is for")
        shows = not self.headless or any(each is not None for each in (self.serve, self.foxglove, self.out))
        if self.ground.is_wanted and not (shows or self.ground.draw_grid):
            raise ConfigError(
                "camera: expected something that shows metres too, got nothing; add --draw-grid, --serve "
                "HOST:PORT or --out FILE.mcap, or open the window"
            )

    def page_token(self) -> str | None:
        """Return the page's token; what the command line says goes before the environment."""
        if self.token_file is not None:
            return read_secret(self.token_file, "a token")
        return self.token or os.environ.get(TOKEN_VARIABLE)

    def make(self) -> list[Output]:
        """Return the outputs, not yet open, in the order in which they should get each step.

        Raises:
            OutputError: a video or bag of an unknown ending, or a page that others could reach without a
                token.
        """
        outputs: list[Output] = []
        if not self.headless and self.serve is None:
            outputs.append(Window())
        if self.serve is not None:  # before the disks, so that the page is not as late as the slowest of them
            outputs.append(Page(self.serve, token=self.page_token()))
        if self.foxglove is not None:
            outputs.append(Foxglove(self.foxglove))
        if self.save is not None:
            outputs.append(Background(Recording(self.save, self.save_what, self.segments)))
        if self.save_masks is not None:
            outputs.append(Background(MaskFolder(self.save_masks)))
        if self.snapshot_every is not None:
            every_s, folder = self.snapshot_every
            outputs.append(Background(SnapshotFolder(folder, every_s=every_s)))
        if self.out is not None:
            from runtime.outputs.bag import BagOutput, ground_under  # of the extra `ros`, which few need
            from runtime.ros.topics import OURS

            ground = partial(ground_under, self.ground)
            left_out = [OURS[name] for name in self.leave_out]
            bag = BagOutput(self.out, ground, self.segments, copy_topics=self.copy_topics, leave_out=left_out)
            outputs.append(Background(bag))
        if self.jsonl is not None:
            outputs.append(Background(JsonLines(self.jsonl, masks=self.jsonl_masks, options=self.segments)))
        return outputs
