"""Pictures of what a network gets wrong: the confusion matrix, and the images it does worst on."""

from __future__ import annotations

import heapq
import textwrap
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from runtime.base.files import replacing
from runtime.contract import ClassMap
from runtime.errors import ConfigError
from runtime.frame import Image
from training.data.dataset import IGNORE
from training.evaluation.confusion import ConfusionMatrix
from training.evaluation.measure import MeasuredImage

WRONG_BGR = (60, 20, 230)
_INCHES_A_CLASS = 0.56
_SHEET_INCHES = 14.4
_DPI = 120


class WorstImages:
    """Keeps the few images with the lowest mIoU out of any number."""

    def __init__(self, count: int) -> None:
        """Start with none, to keep so many.

        Raises:
            ConfigError: a count below 1.
        """
        if count < 1:
            raise ConfigError(f"worst images: expected to keep at least 1, got {count}")
        self._count = count
        self._kept: list[tuple[float, int, MeasuredImage]] = []  # a heap whose first is the best of the kept

    def add(self, image: MeasuredImage) -> None:
        """Keep an image if it is among the worst; one without a labelled pixel has no score."""
        if not image.confusion.matrix.any():
            return
        heapq.heappush(self._kept, (-image.confusion.miou, -image.index, image))
        if len(self._kept) > self._count:
            heapq.heappop(self._kept)

    @property
    def images(self) -> list[MeasuredImage]:
        """The kept images, worst first; of equals the earlier."""
        return [image for _, _, image in sorted(self._kept, reverse=True)]


def draw_confusion(path: Path, confusion: ConfusionMatrix, class_names: Sequence[str], title: str) -> None:
    """Draw the matrix as a PNG: each row is a labelled class, its cells per cent of that class's pixels.

    Args:
        path: of the PNG.
        confusion: what was counted.
        class_names: in the order of the classes.
        title: the text above the matrix.
    """
    from matplotlib.figure import Figure  # slow to import, and only needed here

    pixels = confusion.matrix.sum(axis=1, keepdims=True)
    percent = 100 * confusion.matrix / np.maximum(pixels, 1)  # (label, prediction)
    side = max(7.0, 2.2 + _INCHES_A_CLASS * len(class_names))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    places = range(len(class_names))
    axes.set_xticks(places, class_names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(places, class_names, parse_math=False)
    axes.set_xticks(np.arange(len(class_names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(class_names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("labelled")
    heading = textwrap.fill(f"{title}; per cent of each labelled class", int(side * 11))
    figure.suptitle(heading, fontsize=10, parse_math=False)
    for row, column in np.ndindex(percent.shape):
        if not pixels[row, 0]:
            continue
        value = percent[row, column]
        axes.text(
            column,
            row,
            f"{value:.0f}" if value >= 0.5 else "·",
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold" if row == column else "normal",
            color="white" if value > 55 else "0.15" if value >= 0.5 else "0.6",
        )
    with replacing(path) as part:
        figure.savefig(part, dpi=_DPI, format="png")


def draw_worst(path: Path, images: Sequence[MeasuredImage], classes: ClassMap, title: str) -> None:
    """Draw a sheet as a PNG: a row an image, with its label, its mask and where the two differ.

    Pixels without a label are black in the label and in the picture of the errors.

    Args:
        path: of the PNG.
        images: at least one, in the order of the rows.
        classes: names and colours.
        title: one line above the sheet.

    Raises:
        ConfigError: no image.
    """
    from matplotlib.figure import Figure  # slow to import, and only needed here
    from matplotlib.patches import Patch

    if not images:
        raise ConfigError("worst images: expected at least one with a labelled pixel, got none")
    height, width = images[0].mask.shape
    row_inches = _SHEET_INCHES / 4 * height / width + 0.22
    figure = Figure(figsize=(_SHEET_INCHES, len(images) * row_inches + 1.0), layout="constrained")
    rows = figure.subplots(len(images), 4, squeeze=False)
    for row, scored in zip(rows, images, strict=True):
        label, mask = scored.sample.label, scored.mask
        wrong = (label != mask) & (label != IGNORE)
        labelled = max(1, int((label != IGNORE).sum()))
        pictures = (
            (f"{scored.index}: {scored.sample.name}", scored.sample.image_bgr),
            ("label", _colored(label, classes)),
            (f"prediction, mIoU {scored.confusion.miou:.3f}", _colored(mask, classes)),
            (f"wrong: {wrong.sum() / labelled:.1%}", _errors(scored.sample.image_bgr, label, wrong)),
        )
        for axes, (caption, picture_bgr) in zip(row, pictures, strict=True):
            axes.imshow(picture_bgr[:, :, ::-1])
            axes.set_title(caption, fontsize=9, parse_math=False)
            axes.set_axis_off()
    handles = [
        Patch(facecolor=_hex(rgb), edgecolor="0.3", label=name)
        for name, rgb in zip(classes.names, classes.palette_rgb, strict=True)
    ]
    handles.append(Patch(facecolor="black", label="no label"))
    handles.append(Patch(facecolor=_hex(WRONG_BGR[::-1]), label="wrong"))
    longest = max(len(name) for name in classes.names)
    columns = max(1, min(len(handles), int(_SHEET_INCHES / (0.3 + 0.08 * longest))))
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.suptitle(title, fontsize=11, parse_math=False)
    with replacing(path) as part:
        figure.savefig(part, dpi=_DPI, format="png")


def _colored(mask: Image, classes: ClassMap) -> Image:
    """Return class colours, uint8 (H, W, 3) BGR; black where there is no class."""
    palette_bgr = np.zeros((256, 1, 3), np.uint8)
    palette_bgr[: len(classes), 0] = [rgb[::-1] for rgb in classes.palette_rgb]
    return cv2.applyColorMap(mask, palette_bgr)  # type: ignore[return-value]


def _hex(rgb: Sequence[int]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in rgb)


def _errors(image_bgr: Image, label: Image, wrong: Image) -> Image:
    """Return the image in pale grey, wrong pixels coloured, pixels without a label black."""
    grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
    picture_bgr = cv2.cvtColor(96 + grey // 2, cv2.COLOR_GRAY2BGR)
    picture_bgr[wrong] = WRONG_BGR
    picture_bgr[label == IGNORE] = 0
    return picture_bgr  # type: ignore[return-value]
