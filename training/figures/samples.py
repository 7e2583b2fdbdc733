"""Sample predictions: a few fixed images, what they should give and what the network makes of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from runtime.base.files import replacing
from runtime.contract import ClassMap
from runtime.frame import Image
from runtime.masks.overlay import Overlay
from training.data import IGNORE, Sample, SegmentationDataset
from training.engine.inference import masks_of
from training.evaluation.confusion import ConfusionMatrix
from training.network import CameraNetwork

SAMPLES = 4
PANEL_WIDTH = 400  # pixels; three panels a row
ALPHA = 0.7  # strong colours: the picture beside them shows the rest
_TITLE_PX = 22
_LEGEND_SPACE = 560  # pixels; its letters are as large as on a frame of this height
_MARGIN = 6  # pixels above the legend
_FONT = cv2.FONT_HERSHEY_SIMPLEX


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
