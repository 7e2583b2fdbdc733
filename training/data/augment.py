"""Training's view of a sample: scaled, cropped, flipped, recoloured, at random but repeatable.

All random choices come from the generator that is passed in, so the same generator state gives the same
result. Colour changes act on pixels only; label values are moved, never mixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import ConfigError
from runtime.frame import Image
from training.data.dataset import IGNORE, Sample

Range = tuple[float, float]

# Standard normal quantiles of the 256 byte values: random bytes looked up here are Gaussian noise, ten
# times faster than drawing normals.
_NORMAL_OF_BYTE = np.array([NormalDist().inv_cdf((byte + 0.5) / 256) for byte in range(256)])

# Luma, and the two chroma axes (B - Y, R - Y), of a BGR pixel (ITU-R BT.601).
_LUMA = np.array([0.114, 0.587, 0.299])


# The smallest value that each range may hold.
_LEAST = {
    "scale": 0.01,
    "brightness": -255.0,
    "contrast": 0.0,
    "gamma": 0.01,
    "saturation": 0.0,
    "hue_deg": -180.0,
    "white_balance": 0.01,
    "noise_sigma": 0.0,
    "blur_sigma": 0.01,
}


@dataclass(frozen=True)
class AugmentConfig:
    """How much a sample may change; ranges are (low, high), drawn uniformly.

    Attributes:
        crop_hw: height and width of the result in pixels.
        scale: zoom before the crop.
        flip: probability of a left-right flip.
        style: probability of taking on some of the light and colour cast of another sample.
        brightness: grey levels (of 255) added.
        contrast: factor on the distance from mid grey.
        gamma: exponent on values scaled to 0..1; above 1 darkens the mid tones.
        saturation: factor on the colourfulness; 0 is grey.
        hue_deg: turn of the colour circle in degrees.
        white_balance: factor on each channel, drawn for each by itself.
        noise: probability of sensor noise.
        noise_sigma: its standard deviation in grey levels.
        blur: probability of a Gaussian blur.
        blur_sigma: its standard deviation in pixels of the result.
        pad_bgr: colour around an image that is smaller than the crop; best the data set's mean colour.
        soft_stride: pixels of the crop that a soft label stands for, along each axis.
    """

    crop_hw: tuple[int, int]
    scale: Range = (0.5, 2.0)
    flip: float = 0.5
    style: float = 0.0
    brightness: Range = (-32.0, 32.0)
    contrast: Range = (0.7, 1.3)
    gamma: Range = (0.8, 1.25)
    saturation: Range = (0.6, 1.4)
    hue_deg: Range = (-12.0, 12.0)
    white_balance: Range = (0.9, 1.1)
    noise: float = 0.2
    noise_sigma: Range = (2.0, 10.0)
    blur: float = 0.15
    blur_sigma: Range = (0.4, 1.5)
    pad_bgr: tuple[int, int, int] = (114, 114, 114)
    soft_stride: int = 4

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            ConfigError: naming the setting, what is expected and what was given.
        """
        if min(self.crop_hw) < 1:
            raise ConfigError(f"augment.crop_hw: expected positive sizes, got {self.crop_hw}")
        for name in ("flip", "style", "noise", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"augment.{name}: expected a probability from 0 to 1, got {getattr(self, name)}"
                )
        for name, least in _LEAST.items():
            low, high = getattr(self, name)
            if not least <= low <= high < math.inf:
                raise ConfigError(
                    f"augment.{name}: expected (low, high) with {least} <= low <= high, got {(low, high)}"
                )
        if not all(0 <= channel <= 255 for channel in self.pad_bgr):
            raise ConfigError(f"augment.pad_bgr: expected values from 0 to 255, got {self.pad_bgr}")

    def with_color_strength(self, strength: float) -> AugmentConfig:
        """Return the same with colour changes that go `strength` times as far; 0 leaves colours alone.

        Factors (contrast, gamma, saturation, white balance) go as far as powers, the rest by multiplication.

        >>> AugmentConfig((8, 8), brightness=(-10, 20), gamma=(0.5, 2.0)).with_color_strength(2).gamma
        (0.25, 4.0)
        """

        def power(limits: Range) -> Range:
            return limits[0] ** strength, limits[1] ** strength

        def product(limits: Range) -> Range:
            return limits[0] * strength, limits[1] * strength

        return replace(
            self,
            brightness=product(self.brightness),
            contrast=power(self.contrast),
            gamma=power(self.gamma),
            saturation=power(self.saturation),
            hue_deg=product(self.hue_deg),
            white_balance=power(self.white_balance),
            noise=min(1.0, self.noise * strength),
            blur=min(1.0, self.blur * strength),
        )


class Window(NamedTuple):
    """Which rows and columns of an image are resized, and which of the crop they become."""

    rows: slice
    columns: slice
    rows_in_crop: slice
    columns_in_crop: slice


class Augment:
    """Turns samples of any size into random ones of `config.crop_hw`."""

    def __init__(self, config: AugmentConfig) -> None:
        """Keep the settings."""
        self.config = config

    def __call__(self, sample: Sample, rng: np.random.Generator, donor: Sample | None = None) -> Sample:
        """Return a changed copy.

        Args:
            sample: of any size; left as it is.
            rng: decides everything; the number of draws depends on what was drawn.
            donor: another sample, to take light and colour cast from; None leaves the sample its own.

        Returns:
            A sample of size `config.crop_hw`, with the label at 255 where there was no image, and its soft
            labels, if it has any, at `config.soft_stride` and 0 there.
        """
        config = self.config
        window = self._window(sample, rng)
        image, label = _cut(sample, window)
        flips = rng.random() < config.flip
        if flips:
            image, label = cv2.flip(image, 1), cv2.flip(label, 1)  # type: ignore[assignment]
        soft = None if sample.soft is None else self._cut_soft(sample.soft, sample.label.shape, window, flips)
        if donor is not None:
            image = cv2.LUT(image, style_curves(image, donor.image_bgr, rng.uniform()))  # type: ignore[assignment]
        image = self._recolor(image, rng)
        image = self._spoil(image, rng)

        height, width = config.crop_hw
        if image.shape[:2] == config.crop_hw:
            return Sample(image, label, sample.name, soft=soft)
        full_image = np.empty((height, width, 3), np.uint8)
        full_image[:] = config.pad_bgr
        full_label = np.full((height, width), IGNORE, np.uint8)
        place = window.rows_in_crop, window.columns_in_crop
        full_image[place], full_label[place] = image, label
        return Sample(full_image, full_label, sample.name, soft=soft)

    def _window(self, sample: Sample, rng: np.random.Generator) -> Window:
        """Choose what the crop shows of a sample."""
        scale = rng.uniform(*self.config.scale)
        rows = _span(sample.label.shape[0], scale, self.config.crop_hw[0], rng)
        columns = _span(sample.label.shape[1], scale, self.config.crop_hw[1], rng)
        return Window(rows[0], columns[0], rows[1], columns[1])

    def _cut_soft(self, soft: Image, image_shape: tuple[int, ...], window: Window, flips: bool) -> Image:
        """Return soft labels (h, w, groups) as those of the crop, uint8 (H / stride, W / stride, groups)."""
        stride = self.config.soft_stride
        height, width = (side // stride for side in self.config.crop_hw)
        # Crop pixel → pixel of the cut → pixel of the image → soft label, along each axis, centre to centre.
        axes = (
            (window.columns, window.columns_in_crop, image_shape[1] / soft.shape[1], flips),
            (window.rows, window.rows_in_crop, image_shape[0] / soft.shape[0], False),
        )
        matrix = np.zeros((2, 3))
        for axis, (shown, place, pixels_a_label, mirrored) in enumerate(axes):
            length = place.stop - place.start
            zoom = (shown.stop - shown.start) / length
            slope, offset = float(stride), stride / 2 - place.start  # from label index to the cut's edge
            if mirrored:
                slope, offset = -slope, length - offset
            matrix[axis, axis] = slope * zoom / pixels_a_label
            matrix[axis, 2] = (offset * zoom + shown.start) / pixels_a_label - 0.5
        cut = np.empty((height, width, soft.shape[2]), np.uint8)
        for first in range(0, soft.shape[2], 4):  # as many channels as warpAffine takes
            planes = np.ascontiguousarray(soft[:, :, first : first + 4])
            cut[:, :, first : first + 4] = cv2.warpAffine(
                planes,
                matrix,
                (width, height),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            ).reshape(height, width, -1)
        row_centres = (np.arange(height) + 0.5) * stride
        column_centres = (np.arange(width) + 0.5) * stride
        rows, columns = window.rows_in_crop, window.columns_in_crop
        cut[(row_centres < rows.start) | (row_centres > rows.stop)] = 0
        cut[:, (column_centres < columns.start) | (column_centres > columns.stop)] = 0
        return cut

    def _recolor(self, image_bgr: Image, rng: np.random.Generator) -> Image:
        config = self.config
        matrix = hue_saturation_matrix(rng.uniform(*config.hue_deg), rng.uniform(*config.saturation))
        matrix *= rng.uniform(*config.white_balance, (3, 1))
        curve = tone_curve(
            rng.uniform(*config.gamma), rng.uniform(*config.contrast), rng.uniform(*config.brightness)
        )
        return cv2.LUT(cv2.transform(image_bgr, matrix), curve)  # type: ignore[return-value]

    def _spoil(self, image_bgr: Image, rng: np.random.Generator) -> Image:
        """Return the image as a worse camera would have given it."""
        config = self.config
        if rng.random() < config.blur:
            sigma = rng.uniform(*config.blur_sigma)
            image_bgr = cv2.GaussianBlur(image_bgr, (0, 0), sigma)  # type: ignore[assignment]
        if rng.random() < config.noise:
            image_bgr = add_noise(image_bgr, rng.uniform(*config.noise_sigma), rng)
        return image_bgr


def hue_saturation_matrix(hue_deg: float, saturation: float) -> NDArray[np.float64]:
    """Return the (3, 3) matrix on BGR pixels that turns and stretches colour and keeps luma.

    It works on the luma-chroma plane (Y, B - Y, R - Y) of BT.601, so it is one linear map and needs no
    conversion to HSV and back.

    >>> bool(np.allclose(hue_saturation_matrix(0, 1), np.eye(3)))
    True
    """
    to_chroma = np.array([_LUMA, np.array([1, 0, 0]) - _LUMA, np.array([0, 0, 1]) - _LUMA])
    angle = np.deg2rad(hue_deg)
    cosine, sine = saturation * np.cos(angle), saturation * np.sin(angle)
    turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    matrix: NDArray[np.float64] = np.linalg.inv(to_chroma) @ turn @ to_chroma
    return matrix


def style_curves(image_bgr: Image, donor_bgr: Image, share: float) -> Image:
    """Return the uint8 (1, 256, 3) tables that move each channel's mean and deviation towards a donor's.

    AdaIN on pixels (Huang and Belongie, ICCV 2017) with mixed statistics (MixStyle, Zhou et al., ICLR 2021).

    Args:
        image_bgr: uint8 (H, W, 3).
        donor_bgr: uint8, of any size.
        share: of the donor; 0 changes nothing, 1 takes over all of its mean and deviation.

    >>> dark, bright = np.full((8, 8, 3), 20, np.uint8), np.full((8, 8, 3), 200, np.uint8)
    >>> style_curves(dark, bright, 0.5)[0, 20].tolist()
    [110, 110, 110]
    """
    # One pixel in 64 is enough for two moments; at least one level of deviation, since it divides.
    pixels, donors = image_bgr[::8, ::8].reshape(-1, 3), donor_bgr[::8, ::8].reshape(-1, 3)
    mean, std = pixels.mean(axis=0), np.maximum(pixels.std(axis=0), 1)
    new_mean = mean + share * (donors.mean(axis=0) - mean)
    new_std = std + share * (np.maximum(donors.std(axis=0), 1) - std)
    levels = (np.arange(256)[:, None] - mean) * (new_std / std) + new_mean  # (256, 3)
    curves: Image = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return curves[None]


def tone_curve(gamma: float, contrast: float, brightness: float) -> Image:
    """Return the uint8 (256,) table of gamma, then contrast around mid grey, then brightness.

    >>> bool((tone_curve(1, 1, 0) == np.arange(256)).all())
    True
    >>> tone_curve(1, 3, 10)[[0, 127, 128, 200]].tolist()
    [0, 136, 139, 255]
    """
    levels = 255 * (np.arange(256) / 255) ** gamma
    levels = (levels - 127.5) * contrast + 127.5 + brightness
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def add_noise(image_bgr: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Return the image plus independent Gaussian noise of `sigma` grey levels, cut to 0..255."""
    noise = np.rint(sigma * _NORMAL_OF_BYTE)
    brighter, darker = np.maximum(noise, 0).astype(np.uint8), np.maximum(-noise, 0).astype(np.uint8)
    draws = rng.integers(0, 256, image_bgr.shape, np.uint8)
    return cv2.subtract(cv2.add(image_bgr, cv2.LUT(draws, brighter)), cv2.LUT(draws, darker))  # type: ignore[return-value]


def _cut(sample: Sample, window: Window) -> tuple[Image, Image]:
    """Return image and label of a window, as large as they will be in the crop."""
    height = window.rows_in_crop.stop - window.rows_in_crop.start
    width = window.columns_in_crop.stop - window.columns_in_crop.start
    image = sample.image_bgr[window.rows, window.columns]
    label = sample.label[window.rows, window.columns]
    if label.shape == (height, width):
        return image, label.copy()
    shrinks = height < label.shape[0]
    smooth = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    image = cv2.resize(image, (width, height), interpolation=smooth)  # type: ignore[assignment]
    # The exact kind takes pixel centres as bilinear does; plain INTER_NEAREST is half a pixel off.
    label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)  # type: ignore[assignment]
    return image, label


def _span(length: int, scale: float, crop: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Choose, along one axis, which pixels are resized and which pixels of the crop they become.

    Cutting before resizing touches only pixels that are kept: a zoom of 2 would else make four times
    the pixels and throw most of them away.
    """
    scaled = max(1, round(length * scale))
    if scaled <= crop:
        start = int(rng.integers(0, crop - scaled + 1))
        return slice(0, length), slice(start, start + scaled)
    kept = min(length, max(1, round(crop / scale)))
    start = int(rng.integers(0, length - kept + 1))
    return slice(start, start + kept), slice(0, crop)
