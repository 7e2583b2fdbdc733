"""Sheets of pictures: labels, sample predictions, and the images a network does worst on."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from runtime.base.files import replacing
from runtime.contract import ClassMap
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.masks.overlay import Overlay
from training.data.dataset import IGNORE, Sample, SegmentationDataset
from training.evaluation.measure import MeasuredImage
from training.evaluation.metrics import ConfusionMatrix

if TYPE_CHECKING:
    from training.network.build import CameraNetwork

Panel = tuple[str, Image]  # a caption and a picture, uint8 (H, W, 3) BGR
Look = Mapping[str, Any]  # of a legend's patch

SAMPLES = 4
PANEL_WIDTH = 400  # pixels; three panels a row
ALPHA = 0.7  # strong colours: the picture beside them shows the rest
WRONG_BGR = (60, 20, 230)
_TITLE_PX = 22
_LEGEND_SPACE = 560  # pixels; its letters are as large as on a frame of this height
_MARGIN = 6  # pixels above the legend
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SHEET_INCHES = 14.4
_PANELS_A_ROW = 4
_DPI = 120
_COLOR_SHARE = 0.6  # of the class's colour in a labelled pixel
_VOID_BGR = (255, 0, 255)  # magenta


def sample_predictions(
    network: CameraNetwork, dataset: SegmentationDataset, size_hw: tuple[int, int], *, device: str = "cpu"
) -> Image:
    """Return a sheet of the same images of a data set every time, evenly spread over it.

    Args:
        network: is left in eval mode.
        dataset: images of any size.
        size_hw: the network's input size.
        device: where the network is.

    Returns:
        uint8 (H, W, 3), BGR; see `sample_sheet`.
    """
    from training.engine.inference import masks_of  # brings torch, which no other sheet needs

    masks_at = masks_of(network, size_hw, device=device)
    count = min(SAMPLES, len(dataset))
    samples = [dataset[(2 * number + 1) * len(dataset) // (2 * count)] for number in range(count)]
    masks = [masks_at([sample.image_bgr])[0] for sample in samples]
    return sample_sheet(samples, masks, dataset.classes)


def sample_sheet(samples: list[Sample], masks: list[Image], classes: ClassMap) -> Image:
    """Draw one row an image: the image, its label, and the mask with its own mIoU; below, the classes.

    Args:
        samples: at least one.
        masks: uint8 (H, W), one a sample, of its size.
        classes: names and colours.

    Returns:
        uint8 (h, w, 3), BGR.
    """
    rows = [_row(sample, mask, classes) for sample, mask in zip(samples, masks, strict=True)]
    pictures = np.concatenate([picture for picture, _ in rows])  # (h, w, 3)
    ids = np.concatenate([row_ids for _, row_ids in rows])  # (h, w)
    overlay = Overlay(classes, ALPHA)
    height, width = ids.shape
    # The overlay puts its legend over the lowest rows, so these are spare ones; the sheet's own is smaller.
    spare = ((0, height), (0, 0))
    drawn = overlay.draw(np.pad(pictures, (*spare, (0, 0))), np.pad(ids, spare, constant_values=IGNORE))
    sheet = np.where((ids != IGNORE)[:, :, None], drawn[:height], pictures)
    legend = overlay.draw(
        np.zeros((_LEGEND_SPACE, width, 3), np.uint8), np.full((_LEGEND_SPACE, width), IGNORE, np.uint8)
    )
    lines = np.flatnonzero(legend.any(axis=(1, 2)))
    return np.concatenate([sheet, legend[lines[0] - _MARGIN :] if lines.size else legend[:0]])


def write_sheet(path: Path, sheet_bgr: Image) -> None:
    """Write a sheet as a PNG, whole or not at all."""
    _, png = cv2.imencode(".png", sheet_bgr)
    with replacing(path) as part:
        part.write_bytes(png.tobytes())


def _row(sample: Sample, mask: Image, classes: ClassMap) -> tuple[Image, Image]:
    """Return picture (h, w, 3) and class ids (h, w) of a row, `IGNORE` where no class colour belongs."""
    confusion = ConfusionMatrix(len(classes))
    confusion.update(sample.label, mask)
    height = round(PANEL_WIDTH * mask.shape[0] / mask.shape[1])
    image = cv2.resize(sample.image_bgr, (PANEL_WIDTH, height), interpolation=cv2.INTER_AREA)
    label, shown = (
        cv2.resize(ids, (PANEL_WIDTH, height), interpolation=cv2.INTER_NEAREST)
        for ids in (sample.label, mask)
    )
    miou = f", mIoU {confusion.miou:.2f}" if confusion.matrix.any() else ""  # an image may be void only
    void_black = np.where((label == IGNORE)[:, :, None], 0, image)
    panels = {sample.name: image, "label": void_black, f"prediction{miou}": image}
    titled = [np.concatenate([_title(title), panel]) for title, panel in panels.items()]
    nothing = np.full_like(mask, IGNORE, shape=(height, PANEL_WIDTH))
    ids = np.concatenate([nothing, label, shown], axis=1)
    return np.concatenate(titled, axis=1), np.pad(ids, ((_TITLE_PX, 0), (0, 0)), constant_values=IGNORE)


def _title(text: str) -> Image:
    """Return white text on a black band as wide as a panel."""
    band = np.zeros((_TITLE_PX, PANEL_WIDTH, 3), np.uint8)
    cv2.putText(band, text, (4, _TITLE_PX - 7), _FONT, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return band


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
    if not images:
        raise ConfigError("worst images: expected at least one with a labelled pixel, got none")
    panels: list[Panel] = []
    for image in images:
        image_bgr, label = image.sample.image_bgr, image.sample.label
        wrong = (label != image.mask) & (label != IGNORE)
        labelled = max(1, int((label != IGNORE).sum()))
        panels += [
            (f"{image.index}: {image.sample.name}", image_bgr),
            ("label", _colored(label, classes)),
            (f"prediction, mIoU {image.confusion.miou:.3f}", _colored(image.mask, classes)),
            (f"wrong: {wrong.sum() / labelled:.1%}", _errors(image_bgr, label, wrong)),
        ]
    legend = [
        *_class_looks(classes, range(len(classes))),
        {"facecolor": "black", "label": "no label"},
        {"facecolor": _hex(WRONG_BGR[::-1]), "label": "wrong"},
    ]
    _draw_panels(path, panels, legend, title)


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
    if not samples:
        raise ConfigError("samples: expected at least one to draw, got none")
    panels: list[Panel] = []
    for sample in samples:
        labelled = (sample.label != IGNORE).mean()
        panels += [
            (sample.name, sample.image_bgr),
            (f"label, {labelled:.0%} of the pixels", overlay_label(sample, classes)),
        ]
    present = np.unique(np.concatenate([np.unique(sample.label) for sample in samples])).tolist()
    legend = _class_looks(classes, [index for index in present if index != IGNORE])
    if IGNORE in present:
        legend.append({"facecolor": "0.85", "edgecolor": "magenta", "hatch": "////", "label": "void"})
    _draw_panels(path, panels, legend, title)


def _class_looks(classes: ClassMap, indices: Iterable[int]) -> list[Look]:
    """Return how classes look in a legend."""
    return [
        {"facecolor": _hex(classes.palette_rgb[index]), "edgecolor": "0.3", "label": classes.names[index]}
        for index in indices
    ]


def _draw_panels(path: Path, panels: Sequence[Panel], legend: Sequence[Look], title: str) -> None:
    """Write pictures with captions as a PNG, four a row, with a title above and a legend below."""
    from matplotlib.figure import Figure  # slow to import, and only needed here
    from matplotlib.patches import Patch

    row_count = -(-len(panels) // _PANELS_A_ROW)
    height, width = panels[0][1].shape[:2]
    row_inches = _SHEET_INCHES / _PANELS_A_ROW * height / width + 0.3
    figure = Figure(figsize=(_SHEET_INCHES, row_count * row_inches + 1.0), layout="constrained")
    places = figure.subplots(row_count, _PANELS_A_ROW, squeeze=False).ravel()
    for axes in places:
        axes.set_axis_off()
    for axes, (caption, picture_bgr) in zip(places, panels, strict=False):
        axes.imshow(picture_bgr[:, :, ::-1])
        axes.set_title(caption, fontsize=9, parse_math=False)
    longest = max(len(look["label"]) for look in legend)
    columns = max(1, min(len(legend), int(_SHEET_INCHES / (0.3 + 0.08 * longest))))
    rows = -(-len(legend) // columns)
    key = figure.legend(
        handles=[Patch(**look) for look in legend],
        loc="outside lower center",
        ncols=-(-len(legend) // rows),
        fontsize=9,
    )
    for text in key.get_texts():
        text.set_parse_math(False)
    figure.suptitle(title, fontsize=11, parse_math=False)
    with replacing(path) as part:
        figure.savefig(part, dpi=_DPI, format="png")


def overlay_label(sample: Sample, classes: ClassMap) -> Image:
    """Return the image under its label's colours, uint8 (H, W, 3) BGR; void is hatched, borders are pale."""
    colors_bgr = _colored(sample.label, classes)
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
