"""A sheet of samples with their labels drawn over them, to see whether labels mean what they should."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from runtime.base.files import replacing
from runtime.contract import ClassMap
from runtime.errors import ConfigError
from runtime.frame import Image
from training.data.dataset import IGNORE, Sample

_SAMPLES_A_ROW = 2
_COLUMN_INCHES = 3.6
_LEGEND_COLUMNS = 10
_DPI = 110
_COLOR_SHARE = 0.6  # of the class's colour in a labelled pixel
_VOID_BGR = (255, 0, 255)  # magenta


def draw_samples(path: Path, samples: Sequence[Sample], classes: ClassMap, title: str) -> None:
    """Draw samples as a PNG: each image beside itself under its label's colours.

    Borders between labels are pale, void is hatched in magenta; the legend names what occurs.

    Args:
        path: of the PNG.
        samples: at least one, of any sizes.
        classes: names and colours.
        title: one line above the sheet.

    Raises:
        ConfigError: no sample.
    """
    from matplotlib.figure import Figure  # slow to import, and only needed here
    from matplotlib.patches import Patch

    if not samples:
        raise ConfigError("samples: expected at least one to draw, got none")
    row_count = -(-len(samples) // _SAMPLES_A_ROW)
    height, width = samples[0].label.shape
    row_inches = _COLUMN_INCHES * height / width + 0.3
    figure = Figure(
        figsize=(2 * _SAMPLES_A_ROW * _COLUMN_INCHES, row_count * row_inches + 1.0), layout="constrained"
    )
    places = figure.subplots(row_count, 2 * _SAMPLES_A_ROW, squeeze=False).ravel()
    for axes in places:
        axes.set_axis_off()
    for number, sample in enumerate(samples):
        labelled = (sample.label != IGNORE).mean()
        pictures = (
            (sample.name, sample.image_bgr),
            (f"label, {labelled:.0%} of the pixels", overlay_label(sample, classes)),
        )
        for axes, (caption, picture_bgr) in zip(places[2 * number :], pictures, strict=False):
            axes.imshow(picture_bgr[:, :, ::-1])
            axes.set_title(caption, fontsize=9, parse_math=False)
    present = np.unique(np.concatenate([np.unique(sample.label) for sample in samples])).tolist()
    handles = [
        Patch(
            facecolor="#{:02x}{:02x}{:02x}".format(*classes.palette_rgb[index]),
            edgecolor="0.3",
            label=classes.names[index],
        )
        for index in present
        if index != IGNORE
    ]
    if IGNORE in present:
        handles.append(Patch(facecolor="0.85", edgecolor="magenta", hatch="////", label="void"))
    legend_rows = -(-len(handles) // _LEGEND_COLUMNS)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=-(-len(handles) // legend_rows), fontsize=9
    )
    figure.suptitle(title, fontsize=11, parse_math=False)
    with replacing(path) as part:
        figure.savefig(part, dpi=_DPI, format="png")


def overlay_label(sample: Sample, classes: ClassMap) -> Image:
    """Return the image under its label's colours, uint8 (H, W, 3) BGR; void is hatched, borders are pale."""
    palette_bgr = np.zeros((256, 1, 3), np.uint8)
    palette_bgr[: len(classes), 0] = [rgb[::-1] for rgb in classes.palette_rgb]
    colors_bgr = cv2.applyColorMap(sample.label, palette_bgr)  # (H, W, 3)
    mixed = cv2.addWeighted(sample.image_bgr, 1 - _COLOR_SHARE, colors_bgr, _COLOR_SHARE, 0.0)
    void = sample.label == IGNORE
    mixed[void] = sample.image_bgr[void]
    height, width = sample.label.shape
    spacing = max(6, height // 45)
    diagonal = np.add.outer(np.arange(height), np.arange(width)) % spacing  # (H, W)
    mixed[void & (diagonal < max(1, spacing // 5))] = _VOID_BGR
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    border = cv2.dilate(sample.label, cross) != sample.label
    mixed[border] = mixed[border] // 2 + 128  # pale, so that thin things keep their colour
    return mixed  # type: ignore[return-value]
