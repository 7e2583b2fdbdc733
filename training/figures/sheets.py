"""Sheets of pictures: labels, sample predictions, and the images a network does worst on."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from runtime.base.files import replacing
from runtime.contract import STRETCH, ClassMap, ImageFit
from runtime.errors import ConfigError
from runtime.frame import Image
from training.data.dataset import IGNORE, Sample, SegmentationDataset
from training.evaluation.measure import MeasuredImage, measure_batches
from training.figures.fonts import lettering

if TYPE_CHECKING:
    from training.network.build import CameraNetwork

Panel = tuple[str, Image]  # a caption and a picture, uint8 (H, W, 3) BGR
Look = Mapping[str, Any]  # of a legend's patch

SAMPLES = 4
WRONG_BGR = (60, 20, 230)
_SHEET_INCHES = 14.4
_PANELS_A_ROW = 4
_DPI = 120
_COLOR_SHARE = 0.6  # of the class's colour in a labelled pixel
_VOID_BGR = (255, 0, 255)  # magenta


def sample_predictions(
    network: CameraNetwork,
    dataset: SegmentationDataset,
    size_hw: tuple[int, int],
    *,
    fit: ImageFit = STRETCH,
    device: str = "cpu",
) -> Image:
    """Return a sheet of the same images of a data set every time, evenly spread over it.

    Args:
        network: is left in eval mode.
        dataset: images of any size.
        size_hw: the network's input size.
        fit: how images are brought to it.
        device: where the network is.

    Returns:
        uint8 (H, W, 3), BGR; see `prediction_sheet`.
    """
    from training.engine.inference import masks_of  # brings torch, which no other sheet needs

    count = min(SAMPLES, len(dataset))
    images: list[MeasuredImage] = []
    measure_batches(
        masks_of(network, size_hw, fit=fit, device=device),
        dataset,
        batch_size=1,
        indices=[(2 * number + 1) * len(dataset) // (2 * count) for number in range(count)],
        on_image=images.append,
        progress=False,
    )
    return prediction_sheet(images, dataset.classes, f"{dataset.name} {dataset.split}")


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


def prediction_sheet(images: Sequence[MeasuredImage], classes: ClassMap, title: str) -> Image:
    """Return a sheet with a row an image: beside it its label, its mask and where the two differ.

    Pixels without a label are black in the label and in the picture of the errors.

    Args:
        images: at least one, in the order of the rows.
        classes: names and colours.
        title: one line above the sheet.

    Returns:
        uint8 (h, w, 3), BGR.

    Raises:
        ConfigError: no image.
    """
    if not images:
        raise ConfigError("predictions: expected at least one image to show, got none")
    panels: list[Panel] = []
    for image in images:
        image_bgr, label = image.sample.image_bgr, image.sample.label
        wrong = (label != image.mask) & (label != IGNORE)
        labelled = max(1, int((label != IGNORE).sum()))
        miou = f"{image.confusion.miou:.3f}" if image.confusion.matrix.any() else "-"
        panels += [
            (f"{image.index}: {image.sample.name}", image_bgr),
            ("label", _colored(label, classes)),
            (f"prediction, mIoU {miou}", _colored(image.mask, classes)),
            (f"wrong: {wrong.sum() / labelled:.1%}", _errors(image_bgr, label, wrong)),
        ]
    legend = [
        *_class_looks(classes, range(len(classes))),
        {"facecolor": "black", "label": "no label"},
        {"facecolor": _hex(WRONG_BGR[::-1]), "label": "wrong"},
    ]
    return _sheet(panels, legend, title)


def label_sheet(samples: Sequence[Sample], classes: ClassMap, title: str) -> Image:
    """Return a sheet of samples: each image beside itself under its label's colours.

    Borders between labels are pale, void is hatched in magenta; the legend names what occurs.

    Args:
        samples: at least one, of any sizes.
        classes: names and colours.
        title: one line above the sheet.

    Returns:
        uint8 (h, w, 3), BGR.

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
    return _sheet(panels, legend, title)


def write_sheet(path: Path, sheet_bgr: Image) -> None:
    """Write a sheet as a PNG, whole or not at all."""
    _, png = cv2.imencode(".png", sheet_bgr)
    with replacing(path) as part:
        part.write_bytes(png.tobytes())


def _class_looks(classes: ClassMap, indices: Iterable[int]) -> list[Look]:
    """Return how classes look in a legend."""
    return [
        {"facecolor": _hex(classes.palette_rgb[index]), "edgecolor": "0.3", "label": classes.names[index]}
        for index in indices
    ]


def _sheet(panels: Sequence[Panel], legend: Sequence[Look], title: str) -> Image:
    """Return pictures with captions, four a row, with a title above and a legend below."""
    names, captions = [str(look["label"]) for look in legend], [caption for caption, _ in panels]
    letters = lettering(title, *names, *captions)
    pictures = [picture_bgr for _, picture_bgr in panels]
    looks = [{**look, "label": name} for look, name in zip(legend, letters.names(names), strict=True)]
    with letters.used():
        return _draw_sheet(
            list(zip(map(letters.text, captions), pictures, strict=True)), looks, letters.text(title)
        )


def _draw_sheet(panels: Sequence[Panel], legend: Sequence[Look], title: str) -> Image:
    """Draw it in the fonts of its texts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and only needed here
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    row_count = -(-len(panels) // _PANELS_A_ROW)
    height, width = panels[0][1].shape[:2]
    row_inches = _SHEET_INCHES / _PANELS_A_ROW * height / width + 0.3
    figure = Figure(figsize=(_SHEET_INCHES, row_count * row_inches + 1.0), dpi=_DPI, layout="constrained")
    no_ticks = {"xticks": (), "yticks": (), "frame_on": False}  # laying out ticks would take half of the time
    places = figure.subplots(row_count, _PANELS_A_ROW, squeeze=False, subplot_kw=no_ticks).ravel()
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
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    rgba = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    return np.asarray(rgba)[:, :, 2::-1].copy()


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
