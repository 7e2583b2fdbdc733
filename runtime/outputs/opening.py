"""From command-line flags to opened outputs."""

from __future__ import annotations

import argparse
import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from runtime.contract import ModelContract
from runtime.errors import OutputError
from runtime.outputs.jsonl import MASK_FORMATS, JsonLines, MaskFormat
from runtime.outputs.output import Output
from runtime.outputs.pictures import MaskFolder, SnapshotFolder
from runtime.outputs.recording import VIEWS, Recording, View
from runtime.serve import Address, PageServer
from runtime.sources import Source

_FPS_IF_NONE_STATED = 15.0
_DEFAULT_ADDRESS = Address("127.0.0.1", 8080)


@dataclass(frozen=True)
class OutputOptions:
    """What is to be made of the steps.

    Attributes:
        save: video file to write; None for none.
        save_what: the view that the video shows.
        save_masks: folder for a palette PNG a frame; None for none.
        jsonl: file for a line of JSON a frame; None for none.
        jsonl_masks: how each line holds its mask.
        snapshot_every: seconds between two pictures, and their folder; None for none.
        serve: address of the page; None for none.
        token: what the page asks for; required unless `serve` is a loopback address.
        alpha: share of the class colour in a drawn pixel, 0 to 1.
    """

    save: Path | None = None
    save_what: View = "overlay"
    save_masks: Path | None = None
    jsonl: Path | None = None
    jsonl_masks: MaskFormat = "none"
    snapshot_every: tuple[float, Path] | None = None
    serve: Address | None = None
    token: str | None = None
    alpha: float = 0.5

    @property
    def needs_overlay(self) -> bool:
        """Whether an output wants what the loop draws."""
        return self.save is not None and self.save_what == "overlay"


@dataclass(frozen=True)
class Opened:
    """Outputs that are open.

    Attributes:
        outputs: all of them, in the order to call them.
        recording: the video among them.
        page: the server among them.
    """

    outputs: tuple[Output, ...]
    recording: Recording | None
    page: PageServer | None


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `output_options` reads."""
    defaults = OutputOptions()
    group = parser.add_argument_group("outputs")
    group.add_argument(
        "--save",
        type=Path,
        help="video to record, .mp4, .mkv or .avi (the last two survive a power cut); without it none",
    )
    group.add_argument("--save-what", choices=VIEWS, default=defaults.save_what, help="what the video shows")
    group.add_argument("--save-masks", type=Path, metavar="DIR", help="folder for a palette PNG a frame")
    group.add_argument("--jsonl", type=Path, metavar="FILE", help="file for a line of JSON a frame")
    group.add_argument(
        "--jsonl-masks", choices=MASK_FORMATS, default=defaults.jsonl_masks, help="masks in those lines"
    )
    group.add_argument(
        "--snapshot-every", nargs=2, metavar=("S", "DIR"), help="write a picture every S seconds into DIR"
    )
    group.add_argument(
        "--serve",
        type=_address,
        nargs="?",
        const=_DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help=f"show a page with the live view, without HOST:PORT on {_DEFAULT_ADDRESS}, and open no window",
    )
    group.add_argument(
        "--token",
        help="what the page asks for; needed on other addresses than loopback; other users of this machine "
        "see it in the list of processes, so rather set EDGESEG_TOKEN",
    )
    group.add_argument(
        "--alpha", type=float, default=defaults.alpha, help="share of the class colour in a pixel, 0 to 1"
    )


def output_options(
    parser: argparse.ArgumentParser, given: argparse.Namespace, environment_token: str | None
) -> OutputOptions:
    """Return what the flags ask for; wrong usage ends the command, as argparse does."""
    snapshot_every = None
    if given.snapshot_every is not None:
        seconds, folder = given.snapshot_every
        try:
            snapshot_every = float(seconds), Path(folder)
        except ValueError:
            parser.error(f"argument --snapshot-every: expected seconds and a folder, got {seconds!r}")
        if not (math.isfinite(snapshot_every[0]) and snapshot_every[0] > 0):
            parser.error(f"argument --snapshot-every: expected positive seconds, got {seconds!r}")
    if given.jsonl_masks != "none" and given.jsonl is None:
        parser.error("argument --jsonl-masks: expected also --jsonl FILE, to which they go")
    if given.save_what != "overlay" and given.save is None:
        parser.error("argument --save-what: expected also --save FILE, which it is about")
    if given.token is not None and given.serve is None:
        parser.error("argument --token: expected also --serve HOST:PORT, which it protects")
    return OutputOptions(
        save=given.save,
        save_what=given.save_what,
        save_masks=given.save_masks,
        jsonl=given.jsonl,
        jsonl_masks=given.jsonl_masks,
        snapshot_every=snapshot_every,
        serve=given.serve,
        token=given.token or environment_token,
        alpha=given.alpha,
    )


def open_outputs(
    options: OutputOptions,
    contract: ModelContract,
    source: Source,
    opened: ExitStack,
    *,
    source_name: str = "",
) -> Opened:
    """Open what is asked for; `opened` closes it.

    Args:
        options: what is asked for.
        contract: of the network.
        source: its pace, status and dropped frames are told.
        opened: takes every output as soon as it is open.
        source_name: what the page calls the source; free of passwords.

    Raises:
        OutputError: a file or address that cannot be used.
        ConfigError: settings that cannot work.
    """
    outputs: list[Output] = []
    recording = page = None
    if options.serve is not None:  # first, so that the page's age is not that of the slowest disk
        page = PageServer(
            options.serve,
            contract,
            source,
            token=options.token,
            alpha=options.alpha,
            source_name=source_name,
        )
        outputs.append(opened.enter_context(page))
    if options.save is not None:
        fps = source.fps or _FPS_IF_NONE_STATED
        recording = Recording(options.save, fps, contract.classes, view=options.save_what, live=source.live)
        outputs.append(opened.enter_context(recording))
    if options.save_masks is not None:
        outputs.append(opened.enter_context(MaskFolder(options.save_masks, contract.classes)))
    if options.snapshot_every is not None:
        every_s, folder = options.snapshot_every
        outputs.append(
            opened.enter_context(
                SnapshotFolder(folder, contract.classes, every_s=every_s, alpha=options.alpha)
            )
        )
    if options.jsonl is not None:
        outputs.append(
            opened.enter_context(JsonLines(options.jsonl, contract.classes, masks=options.jsonl_masks))
        )
    return Opened(tuple(outputs), recording, page)


def _address(text: str) -> Address:
    """Parse HOST:PORT for argparse."""
    try:
        return Address.parse(text)
    except OutputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
