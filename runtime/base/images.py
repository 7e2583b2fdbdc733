"""The one reader of image files: from bytes, checked before they are decoded, upright, 8 bits a channel.

Every file is a stranger's. OpenCV never gets a path (it dies of names that are not UTF-8) and never a file
whose header asks for more pixels than `EDGESEG_MAX_IMAGE_PIXELS` allows. Which way is up is read here and not
left to OpenCV, whose versions differ in it, so that a label can be turned like its picture.

A channel of more than 8 bits is scaled by its largest possible value. Where a file states that (AVIF, JPEG
2000, PNM), it counts; else `EDGESEG_IMAGE_BITS`; else the smallest of 8, 10, 12, 14 and 16 bits that holds
the largest value found, which is logged.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from runtime.base.files import open_regular
from runtime.base.image_header import ImageHeader, UnknownImage, read_header
from runtime.base.shown import printable
from runtime.errors import ConfigError, SourceError
from runtime.frame import Image

MAX_PIXELS = 128_000_000  # a phone's 108 megapixels fit, and decode in about 1 GB
PIXELS_VARIABLE, BITS_VARIABLE = "EDGESEG_MAX_IMAGE_PIXELS", "EDGESEG_IMAGE_BITS"
DEPTHS = (8, 10, 12, 14, 16)
IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".dib", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pam"}
    | {".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
_SAMPLES = 16  # images of a sequence that tell its depth
_BYTES_A_PIXEL = 16  # the largest that an uncompressed file takes, with room
_CLUTTER = frozenset(
    {"__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found"}
    | {"thumbs.db", "ehthumbs.db", "desktop.ini"}
)

_log = logging.getLogger(__name__)
_told: set[object] = set()  # what was logged once


@dataclass
class Depth:
    """The bits a channel that a sequence was found to need; they only grow, so its brightness stays."""

    bits: int = DEPTHS[0]


@dataclass(frozen=True)
class ImageFile:
    """An image file that was read and may be decoded.

    Attributes:
        name: its path, fit to be shown.
        content: its bytes.
        header: what it says of itself.
    """

    name: str
    content: bytes
    header: ImageHeader

    def picture(self, bits: int | Depth | None = None) -> Image:
        """Return it upright in colour, uint8 (H, W, 3) BGR.

        Args:
            bits: of a channel, where the file has more than 8 and does not state how many count; or what is
                known of the sequence that the file belongs to.

        Raises:
            SourceError: it does not decode, or is of fractions.
            ConfigError: `EDGESEG_IMAGE_BITS` is no depth.
        """
        # ANYDEPTH: else OpenCV takes the upper 8 of 16 bits, which are nearly black where 12 are in use.
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = self._to_8_bits(self.decode(flags, self.content), bits)
        if self.header.is_series:
            _tell(("series", self.name), f"{self.name}: holds several pictures, the first one is used")
        return self.upright(pixels)

    def upright(self, pixels: Image) -> Image:
        """Return decoded pixels turned as the file's orientation says."""
        width, height = self.header.size_wh
        # OpenCV turns a TIFF by itself.
        if self.header.kind == "TIFF" or pixels.shape[:2] != (height, width):
            return pixels
        return turn(pixels, self.header.orientation)

    def decode(self, flags: int, content: bytes) -> Image:
        """Return the pixels of the file, or of other content that stands for it, of any shape and type.

        Raises:
            SourceError: it does not decode.
        """
        try:
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        except (cv2.error, MemoryError) as error:
            reason = printable(str(getattr(error, "err", error)))[:200]
            raise SourceError(
                f"{self.name}: expected an image, got one that OpenCV refuses ({reason}); remove it or copy "
                "it again"
            ) from None
        if pixels is None or not pixels.size:
            raise SourceError(
                f"{self.name}: expected an image, got {self.header.kind} that OpenCV {cv2.__version__} "
                f"cannot decode; {_advice(self.header)}"
            )
        return pixels  # type: ignore[return-value]  # cv2 types every image as any dtype

    def _to_8_bits(self, pixels: Image, bits: int | Depth | None) -> Image:
        largest = self.header.max_value
        if pixels.dtype == np.uint8:
            return _scaled(pixels, largest) if 0 < largest < 255 else pixels
        if pixels.dtype != np.uint16:
            raise SourceError(
                f"{self.name}: expected an image of 8 or 16 bits a channel, got {pixels.dtype}, which does "
                "not say what is white; convert it to 8 bits"
            )
        if not largest:
            largest = 2 ** self._bits(pixels, bits) - 1
        return _scaled(pixels, largest)

    def _bits(self, pixels: Image, stated: int | Depth | None) -> int:
        sequence = stated if isinstance(stated, Depth) else Depth()
        known = stated if isinstance(stated, int) else _number(BITS_VARIABLE, 8, 16)
        if known:
            return known
        most = int(pixels.max())
        bits = sequence.bits = max(sequence.bits, next(depth for depth in DEPTHS if most < 2**depth))
        if bits < 16:
            _tell(
                ("bits", bits),
                f"{self.name}: 16-bit image whose largest value is {most}, scaled as {bits}-bit; state the "
                f"depth with {BITS_VARIABLE} if that is wrong",
            )
        return bits


def sequence_bits(count: int, load: Callable[[int], ImageFile]) -> int | None:
    """Return how many bits of a channel count in all images of a sequence; None where each says it itself.

    What `EDGESEG_IMAGE_BITS` says counts; else up to 16 images, evenly spread, tell it.

    Args:
        count: number of images.
        load: returns the one at a place.

    Raises:
        SourceError: the first one cannot be read; others are passed over.
        ConfigError: `EDGESEG_IMAGE_BITS` is no depth.
    """
    first = load(0)
    if first.header.max_value or first.decode(cv2.IMREAD_UNCHANGED, first.content).dtype != np.uint16:
        return None
    depth = Depth()
    samples = min(count, _SAMPLES)
    for number in range(samples):
        with suppress(SourceError):
            load(number * count // samples).picture(depth)
    return _number(BITS_VARIABLE, 8, 16) or depth.bits


def read_image(path: str | os.PathLike[str], bits: int | Depth | None = None) -> Image:
    """Return an image file upright in colour, uint8 (H, W, 3) BGR; see `ImageFile.picture`.

    Raises:
        SourceError: a file that cannot be read, is cut off, is too large or does not decode.
        ConfigError: an environment variable that is no number.
    """
    return load_image(path).picture(bits)


def load_image(path: str | os.PathLike[str]) -> ImageFile:
    """Return an image file that is whole and of a size that may be decoded.

    Raises:
        SourceError: no such file, a folder, pipe or device, no image, one that is cut off, or one of more
            pixels than `EDGESEG_MAX_IMAGE_PIXELS` allows.
        ConfigError: that variable is no number.
    """
    name = printable(os.fspath(path))
    content = _read(Path(path), name, _limit() * _BYTES_A_PIXEL)
    return image_of(content, name)


def image_of(content: bytes, name: str) -> ImageFile:
    """Return an image from a file's bytes that is whole and of a size that may be decoded.

    Args:
        content: of the file.
        name: what messages call it, fit to be shown.

    Raises:
        SourceError: no image, one that is cut off, or one of more pixels than `EDGESEG_MAX_IMAGE_PIXELS`
            allows.
        ConfigError: that variable is no number.
    """
    if not content:
        raise SourceError(f"{name}: expected an image, got an empty file; copy it again")
    try:
        header = read_header(content)
    except UnknownImage as error:
        raise SourceError(f"{name}: expected an image, got {error}; remove it or copy it again") from None
    check_pixels(name, "an image", *header.size_wh)
    if not header.is_whole:
        raise SourceError(
            f"{name}: expected an image that is whole, got a {header.kind} file that is truncated; copy it "
            "again"
        )
    return ImageFile(name, content, header)


def check_pixels(name: str, kind: str, width: int, height: int) -> None:
    """Check what a header asks for before anything is decoded.

    Args:
        name: what messages call it, fit to be shown.
        kind: such as "an image".
        width: in pixels.
        height: in pixels.

    Raises:
        SourceError: more pixels than `EDGESEG_MAX_IMAGE_PIXELS` allows.
        ConfigError: that variable is no number.
    """
    if width * height > (limit := _limit()):
        raise SourceError(
            f"{name}: expected {kind} of at most {limit / 1e6:g} million pixels, got {width}x{height}, "
            f"{width * height / 1e6:.0f} million; make it smaller, or set {PIXELS_VARIABLE} if the memory "
            "suffices"
        )


def turn(pixels: Image, orientation: int) -> Image:
    """Return stored pixels, (H, W) or (H, W, C), as they look upright.

    Args:
        pixels: as stored.
        orientation: EXIF's number, 1..8.

    >>> turn(np.array([[1, 2], [3, 4]], np.uint8), 6).tolist()
    [[3, 1], [4, 2]]
    """
    if orientation >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    # The rows of the upright picture run backwards in 3, 4, 7, 8; its columns in 2, 3, 6, 7.
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def is_clutter(path: str | os.PathLike[str]) -> bool:
    """Return whether a name is of what systems leave lying about, or a path goes through such a folder.

    >>> [is_clutter(name) for name in ("a.png", "@eaDir/a.png", "__MACOSX", "._a.png", "Thumbs.db")]
    [False, True, True, True, True]
    """
    parts = Path(path).parts
    return any(part.lower() in _CLUTTER or (part.startswith(".") and part != "..") for part in parts)


def _read(path: Path, name: str, limit_bytes: int) -> bytes:
    """Return a regular file's bytes."""
    try:
        with open_regular(path) as file:
            state = os.fstat(file.fileno())
            if state.st_size > limit_bytes:
                raise SourceError(
                    f"{name}: expected an image of at most {limit_bytes / 1e9:.1f} GB, got "
                    f"{state.st_size / 1e9:.1f} GB; make it smaller, or raise {PIXELS_VARIABLE}"
                )
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{name}: expected an image file, cannot read it ({reason})") from None


def _scaled(pixels: Image, largest: int) -> Image:
    """Return values up to `largest` as up to 255; larger ones are 255."""
    return cv2.convertScaleAbs(pixels, alpha=255 / largest)  # type: ignore[return-value]


def _advice(header: ImageHeader) -> str:
    if header.kind == "HEIF":
        return "convert it to JPEG"
    if header.kind in ("AVIF", "GIF") or header.is_series:
        return "install a newer OpenCV, or convert it to PNG"
    if header.kind == "TIFF":
        return "convert it to 8 or 16 bits a channel, or, if it is damaged, copy it again"
    return "it is damaged: remove it or copy it again"


def _limit() -> int:
    return _number(PIXELS_VARIABLE, 1, 1 << 40) or MAX_PIXELS


def _number(variable: str, least: int, most: int) -> int | None:
    """Return the number that an environment variable states; None where it is unset or empty."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    if not least <= number <= most:
        raise ConfigError(f"{variable}: expected a number from {least} to {most}, got {printable(text)!r}")
    return number


def _tell(what: object, message: str) -> None:
    """Log a message once a process."""
    if what not in _told:
        _told.add(what)
        _log.warning("%s", message)
