"""Every image of a stranger becomes an upright 8-bit picture, or a typed error that says what to do."""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.base import images
from runtime.base.image_header import UnknownImage, read_header
from runtime.base.images import Depth, is_clutter, load_image, read_image, turn
from runtime.errors import ConfigError, SourceError
from runtime.sources import open_source

# What a camera stores of the picture UPRIGHT, by the EXIF orientation that turns it upright again.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: cv2.flip(a, 1),
    3: lambda a: cv2.rotate(a, cv2.ROTATE_180),
    4: lambda a: cv2.flip(a, 0),
    5: lambda a: cv2.transpose(a),
    6: lambda a: cv2.rotate(a, cv2.ROTATE_90_COUNTERCLOCKWISE),
    7: lambda a: cv2.rotate(cv2.transpose(a), cv2.ROTATE_180),
    8: lambda a: cv2.rotate(a, cv2.ROTATE_90_CLOCKWISE),
}


def picture(size_hw: tuple[int, int] = (48, 80)) -> np.ndarray:
    """Smooth, so that every compression keeps it, and different on every side."""
    height, width = size_hw
    y, x = np.mgrid[0:height, 0:width]
    return np.dstack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)]).astype(
        np.uint8
    )


def encoded(pixels: np.ndarray, suffix: str, *parameters: int) -> bytes:
    """Return an image file's bytes; skip where this OpenCV cannot write them."""
    try:
        return cv2.imencode(suffix, pixels, parameters)[1].tobytes()
    except cv2.error:
        pytest.skip(f"this OpenCV writes no {suffix}")


def exif(orientation: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHIHH", 274, 3, 1, orientation, 0)
    return mark + struct.pack(f"{order}IH", 8, 1) + entry + struct.pack(f"{order}I", 0)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def jpeg_with(content: bytes, orientation: int, order: str = "<") -> bytes:
    body = b"Exif\0\0" + exif(orientation, order)
    return content[:2] + struct.pack(">HH", 0xFFE1, 2 + len(body)) + body + content[2:]


def png_with(content: bytes, orientation: int) -> bytes:
    return content[:33] + chunk(b"eXIf", exif(orientation, ">")) + content[33:]


def webp_with(content: bytes, orientation: int) -> bytes:
    header = read_header(content)
    width, height = header.size_wh
    extended = struct.pack("<4sIB3x", b"VP8X", 10, 8) + (width - 1).to_bytes(3, "little")
    extended += (height - 1).to_bytes(3, "little")
    tag = exif(orientation)
    body = b"WEBP" + extended + content[12:] + struct.pack("<4sI", b"EXIF", len(tag)) + tag
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(pixels_bgr: np.ndarray, orientation: int) -> bytes:
    height, width = pixels_bgr.shape[:2]
    data = pixels_bgr[:, :, ::-1].tobytes()
    at = 8 + len(data)
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 2), (273, 4, 8)]
    entries += [(274, 3, orientation), (277, 3, 3), (278, 4, height), (279, 4, len(data))]
    packed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", at) + data + struct.pack("<H", len(entries)) + packed + b"\0" * 4


def as_avif(pixels: np.ndarray, orientation: int) -> bytes:
    """Return an AVIF whose own boxes turn it, as phones write it."""
    turns = {
        1: (0, None),
        2: (0, 1),
        3: (2, None),
        4: (0, 0),
        5: (1, 0),
        6: (3, None),
        7: (3, 0),
        8: (1, None),
    }
    angle, axis = turns[orientation]
    content = encoded(pixels, ".avif", cv2.IMWRITE_AVIF_QUALITY, 95)  # type: ignore[attr-defined]
    boxes = b"\0\0\0\x09irot" + bytes([angle])
    boxes += b"" if axis is None else b"\0\0\0\x09imir" + bytes([axis])
    place = content.index(b"ispe") - 4
    return content[:place] + boxes + content[place:]  # not associated: only the header is read of it


WITH_ORIENTATION: dict[str, Callable[[np.ndarray, int], bytes]] = {
    "jpg": lambda pixels, o: jpeg_with(encoded(pixels, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 98), o),
    "jpg, big endian": lambda pixels, o: jpeg_with(encoded(pixels, ".jpg"), o, ">"),
    "png": lambda pixels, o: png_with(encoded(pixels, ".png"), o),
    "webp": lambda pixels, o: webp_with(encoded(pixels, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101), o),
    "tif": tiff,
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", WITH_ORIENTATION)
def test_pictures_come_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(WITH_ORIENTATION[kind](STORED[orientation](picture()), orientation))
    read = read_image(path)
    assert read.shape == picture().shape
    assert np.abs(read.astype(int) - picture()).mean() < 4


@pytest.mark.parametrize("orientation", STORED)
def test_an_avif_tells_its_turn_by_its_own_boxes(orientation: int) -> None:
    if not hasattr(cv2, "IMWRITE_AVIF_QUALITY"):
        pytest.skip("this OpenCV knows no AVIF")
    content = as_avif(STORED[orientation](picture()), orientation)
    assert read_header(content).orientation == orientation


@pytest.mark.parametrize("orientation", STORED)
def test_a_turn_undoes_what_the_camera_did(orientation: int) -> None:
    assert np.array_equal(turn(STORED[orientation](picture()), orientation), picture())
    assert np.array_equal(turn(STORED[orientation](picture()[:, :, 0]), orientation), picture()[:, :, 0])


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_impossible_orientation_turns_nothing(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg_with(encoded(picture(), ".jpg"), orientation))
    assert read_image(path).shape == picture().shape


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jp2", ".ppm"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_pictures_of_more_than_8_bits_are_as_bright_as_they_were(
    tmp_path: Path, suffix: str, bits: int
) -> None:
    deep = (picture().astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(deep, suffix))
    assert np.abs(read_image(path).astype(int) - picture()).mean() < 2


@pytest.mark.parametrize("bits", [10, 12])
def test_a_deep_avif_states_its_depth(tmp_path: Path, bits: int) -> None:
    if not hasattr(cv2, "IMWRITE_AVIF_DEPTH"):
        pytest.skip("this OpenCV knows no AVIF")
    dark = (picture() // 4).astype(np.uint16) << (bits - 8)
    path = tmp_path / "a.avif"
    path.write_bytes(encoded(dark, ".avif", cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 95))
    assert np.abs(read_image(path).astype(int) - picture() // 4).mean() < 3


@pytest.mark.parametrize(("head", "largest"), [(b"P5 80 48 4095\n", 4095), (b"P5 80 48\n# of 15\n15\n", 15)])
def test_a_pnm_states_its_largest_value(tmp_path: Path, head: bytes, largest: int) -> None:
    grey = picture()[:, :, 0] // 2
    values = grey.astype(np.uint32) * largest // 255
    path = tmp_path / "a.pgm"
    path.write_bytes(head + values.astype(">u2" if largest > 255 else np.uint8).tobytes())
    assert np.abs(read_image(path)[:, :, 0].astype(int) - grey).mean() < 255 / largest


def test_which_depth_was_found_is_logged_and_can_be_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(images, "_told", set())
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture().astype(np.uint16) * 16, ".png"))
    with caplog.at_level(logging.WARNING):
        read_image(path)
        read_image(path)
    assert [record.message for record in caplog.records] == [
        f"{path}: 16-bit image whose largest value is 4016, scaled as 12-bit; state the depth with "
        "EDGESEG_IMAGE_BITS if that is wrong"
    ]
    monkeypatch.setenv("EDGESEG_IMAGE_BITS", "16")
    assert read_image(path).max() == 16
    assert read_image(path, 14).max() == 63  # what the caller states comes first


def test_a_sequence_keeps_its_brightness(tmp_path: Path) -> None:
    for name, largest in (("1", 4095), ("2", 900), ("3", 4095)):
        (tmp_path / f"{name}.png").write_bytes(encoded(np.full((8, 8), largest, np.uint16), ".png"))
    with open_source(str(tmp_path / "*.png")) as source:
        assert [int(frame.image_bgr.max()) for frame in source] == [255, 56, 255]
    depth = Depth()
    assert [int(read_image(tmp_path / f"{name}.png", depth).max()) for name in "21"] == [224, 255]


@pytest.mark.parametrize("value", ["7", "17", "twelve", "-12", "٤", "1" * 5000])
def test_a_depth_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    (tmp_path / "a.png").write_bytes(encoded(np.full((8, 8), 900, np.uint16), ".png"))
    monkeypatch.setenv("EDGESEG_IMAGE_BITS", value)
    with pytest.raises(ConfigError, match="EDGESEG_IMAGE_BITS: expected a number from 8 to 16"):
        read_image(tmp_path / "a.png")


TRAILING = {
    "a motion photo's video": b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40 + b"\xff\xda\xff\xc0",
    "zeros": b"\0" * 5000,
    "text": b"uploaded by a phone",
    "the start of another scan": b"\xff\xda\0\x0c",
}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".ppm"])
@pytest.mark.parametrize("trailing", TRAILING)
def test_data_behind_the_picture_is_no_harm(tmp_path: Path, suffix: str, trailing: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(picture(), suffix) + TRAILING[trailing])
    assert np.abs(read_image(path).astype(int) - picture()).mean() < 4


def test_a_thumbnail_is_not_taken_for_the_end(tmp_path: Path) -> None:
    """An EXIF block may hold a whole JPEG, whose end is not the picture's."""
    whole = encoded(picture(), ".jpg")
    body = b"Exif\0\0" + exif(1) + encoded(picture((8, 16)), ".jpg")
    content = whole[:2] + struct.pack(">HH", 0xFFE1, 2 + len(body)) + body + whole[2:]
    (tmp_path / "a.jpg").write_bytes(content)
    assert read_image(tmp_path / "a.jpg").shape == picture().shape
    (tmp_path / "a.jpg").write_bytes(content[: len(content) - len(whole) // 3])
    with pytest.raises(
        SourceError, match=r"a\.jpg: expected an image that is whole, got a JPEG file that is"
    ):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".jp2", ".ppm", ".gif", ".avif"]
)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.995])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    content = encoded(picture(), suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SourceError, match="expected an image"):
        read_image(path)


def test_progressive_jpegs_are_read_to_their_end(tmp_path: Path) -> None:
    whole = encoded(picture(), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
    (tmp_path / "a.jpg").write_bytes(whole)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - picture()).mean() < 4
    (tmp_path / "a.jpg").write_bytes(whole[: whole.rindex(b"\xff\xda")])  # the last scan is missing
    with pytest.raises(SourceError, match="that is whole"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize(("scans", "is_read"), [(50, True), (200, False), (100_000, False)])
def test_a_jpeg_of_countless_scans_is_not_decoded(tmp_path: Path, scans: int, is_read: bool) -> None:
    """Each scan of 30 bytes costs as much time as the whole picture: a file of 1 MB could take an hour."""
    whole = encoded(np.full((64, 64, 3), 128, np.uint8), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    (tmp_path / "a.jpg").write_bytes(whole[:-2] + last * scans + whole[-2:])
    if is_read:
        assert read_image(tmp_path / "a.jpg").shape == (64, 64, 3)
    else:
        with pytest.raises(SourceError, match="got a JPEG file of more than 100 scans"):
            read_image(tmp_path / "a.jpg")


SIDE = 30_000
HUGE = {
    "png": b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b""))
    + chunk(b"IEND", b""),
    "jpeg": b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HHB", SIDE, SIDE, 3) + b"\0" * 9 + b"\xff\xd9",
    "jpeg, progressive": b"\xff\xd8\xff\xc2\0\x11\x08" + struct.pack(">HH", SIDE, SIDE) + b"\x03" + b"\0" * 9,
    "jpeg, two sizes": b"\xff\xd8\xff\xc0\0\x11\x08\0\x08\0\x08\x03"
    + b"\0" * 9
    + b"\xff\xc0\0\x11\x08"
    + struct.pack(">HH", SIDE, SIDE)
    + b"\x03"
    + b"\0" * 9
    + b"\xff\xd9",
    "webp, extended": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (SIDE - 1).to_bytes(3, "little") * 2,
    "bmp": b"BM" + b"\0" * 12 + struct.pack("<Iii", 40, SIDE, -SIDE) + b"\0" * 28,
    "bmp, os/2": b"BM" + b"\0" * 12 + struct.pack("<IHH", 12, SIDE, SIDE) + b"\0" * 28,
    "tiff": b"II*\0\x08\0\0\0\x02\0" + struct.pack("<HHIIHHII", 256, 4, 1, SIDE, 257, 4, 1, SIDE) + b"\0" * 4,
    "tiff, big": b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0"
    + struct.pack("<HHQQHHQQ", 256, 4, 1, SIDE, 257, 4, 1, SIDE)
    + b"\0" * 8,
    "tiff, tiles": b"MM\0*\0\0\0\x08\0\x04"
    + b"".join(struct.pack(">HHII", tag, 4, 1, 9 if tag < 300 else SIDE) for tag in (256, 257, 322, 323))
    + b"\0" * 4,
    "avif": b"\0\0\0\x14ftypavif\0\0\0\0mif1"
    + b"\0\0\0\x20meta\0\0\0\0"
    + b"\0\0\0\x14ispe\0\0\0\0"
    + struct.pack(">II", SIDE, SIDE),
    "gif": b"GIF89a" + struct.pack("<HH", SIDE, SIDE) + b"\0" * 20,
    "pgm": f"P5\n# {'x' * 99}\n{SIDE}\n{SIDE} 255\n".encode(),
    "ppm, ascii": f"P3 {SIDE} {SIDE} 255\n".encode(),
    "pbm": f"P4 {SIDE} {SIDE}\n".encode(),
    "pam": f"P7\nWIDTH {SIDE}\nHEIGHT {SIDE}\nDEPTH 3\nMAXVAL 255\nENDHDR\n".encode(),
    "jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 40 + b"\xff\x4f\xff\x51\0\x2f\0\0"
    + struct.pack(">II", SIDE, SIDE) + b"\0" * 24 + b"\0\x03\x07\1\1" + b"\0" * 9,
    "j2k": b"\xff\x4f\xff\x51\0\x2f\0\0" + struct.pack(">IIII", SIDE + 5, SIDE + 5, 5, 5) + b"\0" * 40,
}  # fmt: skip


@pytest.mark.parametrize("kind", HUGE)
def test_a_huge_picture_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(HUGE[kind])
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(
        SourceError,
        match=r"at most 128 million pixels, got 30000x30000, 900 million; .*EDGESEG_MAX_IMAGE_PIXELS",
    ):
        read_image(path)


def test_the_limit_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(), ".png"))
    monkeypatch.setenv("EDGESEG_MAX_IMAGE_PIXELS", str(48 * 80))
    assert read_image(path).shape == (48, 80, 3)
    monkeypatch.setenv("EDGESEG_MAX_IMAGE_PIXELS", str(48 * 80 - 1))
    with pytest.raises(SourceError, match=r"at most 0.003839 million pixels, got 80x48"):
        read_image(path)
    monkeypatch.setenv("EDGESEG_MAX_IMAGE_PIXELS", "many")
    with pytest.raises(ConfigError, match="EDGESEG_MAX_IMAGE_PIXELS: expected a number from 1"):
        read_image(path)


def test_a_file_larger_than_any_picture_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SourceError, match=r"expected an image of at most 2.0 GB, got 1099.5 GB"):
        read_image(path)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    for name, said in (
        ("folder.png", "Is a directory"),
        ("pipe.png", "it is a pipe, not a regular file"),
        ("empty.png", "got an empty file"),
        ("none.png", "cannot read it"),
        ("/dev/zero", "it is a device, not a regular file"),
        ("zero\0byte.png", "cannot read it"),
        ("x" * 300 + ".png", "File name too long"),
    ):
        with pytest.raises(SourceError, match=said):
            read_image(tmp_path / name)


@pytest.mark.parametrize(
    "kind",
    [
        *("text", "zeros", "an unknown brand", "a lonely start", "png without size", "heic", "float tiff"),
        *("jpeg without size", "tiff without end"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, kind: str) -> None:
    content = {
        "text": b"no image",
        "zeros": b"\0" * 4096,
        "an unknown brand": b"\0\0\0\x14ftypisom\0\0\0\0mp41",
        "a lonely start": b"\xff\xd8\xff",
        "png without size": b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + b"\0" * 17,
        "heic": HUGE["avif"].replace(b"avif", b"heic").replace(struct.pack(">I", SIDE), b"\0\0\0\x40"),
        "float tiff": None,
        "jpeg without size": b"\xff\xd8\xff\xd9",
        "tiff without end": b"II*\0\xff\xff\xff\xff",
    }[kind]
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(np.ones((8, 8), np.float32), ".tiff") if content is None else content)
    with pytest.raises(SourceError, match=r"a\.jpg: expected an image"):
        read_image(path)


def test_heic_says_what_to_do(tmp_path: Path) -> None:
    content = HUGE["avif"].replace(b"avif", b"heic").replace(struct.pack(">I", SIDE), b"\0\0\0\x40")
    (tmp_path / "a.heic").write_bytes(content)
    with pytest.raises(SourceError, match=r"got HEIF that OpenCV .* cannot decode; convert it to JPEG"):
        read_image(tmp_path / "a.heic")


@pytest.mark.parametrize("kind", ["grey", "grey and alpha", "alpha", "palette", "1 bit", "16-bit grey"])
def test_any_channels_become_three(tmp_path: Path, kind: str) -> None:
    grey = picture()[:, :, 0]
    rows = b"".join(b"\0" + row.tobytes() for row in np.dstack([grey, 255 - grey]))
    shape = struct.pack(">II", 80, 48)
    grey_alpha = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", shape + bytes([8, 4, 0, 0, 0]))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    palette = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", shape + bytes([8, 3, 0, 0, 0]))
        + chunk(b"PLTE", bytes(value for value in range(256) for _ in range(3)))
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in grey)))
        + chunk(b"IEND", b"")
    )
    content = {
        "grey": encoded(grey, ".png"),
        "grey and alpha": grey_alpha,
        "alpha": encoded(np.dstack([grey, grey, grey, 255 - grey]), ".png"),
        "palette": palette,
        "1 bit": encoded(grey // 128 * 255, ".png", cv2.IMWRITE_PNG_BILEVEL, 1),
        "16-bit grey": encoded(grey.astype(np.uint16) * 257, ".png"),
    }[kind]
    (tmp_path / "a.png").write_bytes(content)
    expected = grey // 128 * 255 if kind == "1 bit" else grey
    read = read_image(tmp_path / "a.png")
    assert read.shape == (48, 80, 3)
    assert np.abs(read.astype(int) - expected[:, :, None]).max() <= 1


def test_a_cmyk_jpeg_has_its_colours(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    pillow.fromarray(picture()[:, :, ::-1]).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - picture()).mean() < 4


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_pictures_the_first_is_read(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pillow = pytest.importorskip("PIL.Image")
    monkeypatch.setattr(images, "_told", set())
    first, second = (pillow.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (200, 20))
    path = tmp_path / "a.png"
    first.save(path, kind, save_all=True, append_images=[second])
    with caplog.at_level(logging.WARNING):
        assert 190 < read_image(path).mean() < 210
    assert f"{path}: holds several pictures, the first one is used" in caplog.text
    first.save(path, kind)
    assert not load_image(path).header.is_series


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff"])
def test_a_name_that_is_not_utf_8_is_read_from_bytes(tmp_path: Path, suffix: str) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9\x80" + suffix.encode()
    try:
        with open(name, "wb") as file:
            file.write(encoded(picture(), suffix))
    except OSError:
        pytest.skip("this file system takes no such name")
    with open_source(os.fsdecode(name)) as source:
        assert next(iter(source)).image_bgr.shape == (48, 80, 3)
    with open(name, "wb") as file:
        file.write(b"no image")
    with pytest.raises(SourceError) as caught:
        read_image(os.fsdecode(name))
    assert r"caf\udce9\udc80" in str(caught.value)
    str(caught.value).encode()  # no lone surrogate is left in the message


CLUTTER = (
    "@eaDir/a.png",
    "__MACOSX/a.png",
    "__MACOSX/._a.png",
    ".hidden/a.png",
    "._a.png",
    "deep/@eaDir/a.png",
)


@pytest.mark.parametrize("pattern", ["**/*.png", "*/*.png", "*.png", ".frames/**/*.png"])
def test_what_systems_leave_lying_about_is_no_frame(tmp_path: Path, pattern: str) -> None:
    root = tmp_path / ".frames" if pattern.startswith(".") else tmp_path
    for name in (*CLUTTER, "a.png", "deep/a.png", "Thumbs.db", ".DS_Store"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(picture((8, 8)), ".png"))
    with open_source(str(tmp_path / pattern)) as source:
        count = len(list(source))
    assert count == {"*/*.png": 1, "*.png": 1}.get(pattern, 2)


def test_clutter_is_known_by_its_name() -> None:
    names = (
        "@eaDir",
        "__MACOSX",
        "._x.png",
        "Thumbs.db",
        "thumbs.DB",
        ".DS_Store",
        "desktop.ini",
        "$RECYCLE.BIN",
    )
    assert all(map(is_clutter, names))
    assert not any(map(is_clutter, ("a.png", "thumbs.png", "MACOSX", "train", "x.y.png")))


def test_unknown_bytes_have_no_header() -> None:
    for content in (b"", b"P", b"RIFF", b"BM", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"MM\0*", b"P5 x y", b"P5 9"):
        with pytest.raises(UnknownImage):
            read_header(content)


def test_a_header_that_points_anywhere_is_survived() -> None:
    """Every byte of a good file's start set to every kind of extreme."""
    contents = [HUGE[kind] for kind in HUGE] + [encoded(picture((8, 8)), ".png"), exif(6)]
    for content in contents:
        for place in range(min(len(content), 80)):
            for value in (0, 1, 127, 128, 255):
                damaged = content[:place] + bytes([value]) + content[place + 1 :]
                with suppress(UnknownImage):
                    read_header(damaged)


def test_the_file_is_loaded_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(), ".png"))
    file = load_image(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    assert file.picture().shape == (48, 80, 3)
    assert (file.header.kind, file.header.size_wh) == ("PNG", (80, 48))
