"""Whole files and answers of strangers, small, to be damaged: the same ones every time."""

from __future__ import annotations

import base64
import io
import json
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from runtime.frame import Image

CONTAINERS = {"mp4": "mp4", "mkv": "matroska", "webm": "webm", "avi": "avi", "ts": "mpegts"}  # PyAV's names
BAGS = ("mcap", "db3", "bag") if find_spec("rosbags") and find_spec("mcap") else ()  # of the extra `ros`
SEED_TARGETS = (*CONTAINERS, *BAGS, "image", "label", "classes", "shapes", "http", "rtsp")
NEXT_ANSWER = b"\0<next answer>\0"  # between what a server says to one request and to the next
CLASSES = ("floor", "wall", "door")
SIZE_WH = (64, 48)
SHAPE_FILES = {
    "coco": "train.json",
    "cvat": "annotations.xml",
    "label-studio": "a.json",
    "yolo": "labels/a.txt",
    "supervisely": "train/ann/a.png.json",
}
_SEEDS_A_CONTAINER = 10
_CODECS = {
    "mp4": ("libx264", "mpeg4", "libx265", "mjpeg"),
    "mkv": ("libx264", "mpeg4", "libvpx", "ffv1", "mjpeg"),
    "webm": ("libvpx", "libvpx-vp9"),
    "avi": ("mjpeg", "mpeg4", "libx264", "huffyuv"),
    "ts": ("mpeg2video", "libx264", "libx265"),
}
_QUIET = {"libx265": {"x265-params": "log-level=none"}}
_FOURCC = {"mp4": "mp4v", "mkv": "mp4v", "webm": "VP80", "avi": "MJPG", "ts": "mp2v"}  # without PyAV


@lru_cache
def seeds(target: str) -> tuple[bytes, ...]:
    """Return the whole files or answers of a target."""
    if target in CONTAINERS:
        return tuple(_videos(target))
    if target in BAGS:
        return tuple(_bags(target))
    return tuple(
        {
            "image": _images,
            "label": _labels,
            "classes": _classes,
            "shapes": _shapes,
            "http": _http,
            "rtsp": _rtsp,
        }[target]()
    )


def picture(number: int = 0, size_wh: tuple[int, int] = SIZE_WH) -> Image:
    """Return a picture with edges and gradients, another one for each number."""
    width, height = size_wh
    y, x = np.mgrid[0:height, 0:width]
    moved = (x + 3 * number) % width
    planes = [moved * 255 // width, y * 255 // height, np.where((moved // 8 + y // 8) % 2, 200, 30)]
    return np.dstack(planes).astype(np.uint8)


def _bags(kind: str) -> Iterator[bytes]:
    """Return bags of raw and of compressed pictures."""
    from tests.runtime.ros import bag_files

    raw = bag_files.drive(6, store=bag_files.ROS1_STORE if kind == "bag" else bag_files.STORE)
    packed = [
        ("/camera/compressed", bag_files.START_NS + number, bag_files.compressed(jpeg, "jpeg"))
        for number, jpeg in enumerate(_jpegs(6))
    ]
    for number, entries in enumerate((raw,) if kind == "bag" else (raw, packed)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{number}.bag"
            if kind == "bag":
                yield bag_files.write_ros1(path, entries).read_bytes()
            else:
                storage = "mcap" if kind == "mcap" else "sqlite3"
                yield bag_files.write_ros2(path, entries, storage).read_bytes()


def _jpegs(count: int) -> list[bytes]:
    return [cv2.imencode(".jpg", picture(number))[1].tobytes() for number in range(count)]


def _videos(container: str) -> Iterator[bytes]:
    for number, codec in enumerate(islice(cycle(_CODECS[container]), _SEEDS_A_CONTAINER)):
        size_wh = (64 + 16 * (number % 3), 48 + 16 * (number % 2))
        yield _video(container, codec, size_wh, frames=6 + 5 * (number % 4))


def _video(container: str, codec: str, size_wh: tuple[int, int], frames: int) -> bytes:
    try:
        import av
    except ImportError:
        return _video_by_opencv(container, size_wh, frames)
    buffer = io.BytesIO()
    try:
        # Bit-exact: no random numbers that would make other files each time.
        with av.open(buffer, "w", format=CONTAINERS[container], options={"fflags": "bitexact"}) as output:
            stream = output.add_stream(codec, rate=15, options=_QUIET.get(codec, {}))
            stream.width, stream.height = size_wh
            stream.pix_fmt = {"mjpeg": "yuvj420p", "huffyuv": "yuv422p"}.get(codec, "yuv420p")
            for number in range(frames):
                output.mux(
                    stream.encode(av.VideoFrame.from_ndarray(picture(number, size_wh), format="bgr24"))
                )
            output.mux(stream.encode())
    except (av.FFmpegError, ValueError):  # a codec that this FFmpeg lacks
        return _video_by_opencv(container, size_wh, frames)
    return buffer.getvalue()


def _video_by_opencv(container: str, size_wh: tuple[int, int], frames: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"seed.{container}"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*_FOURCC[container]), 15, size_wh)
        for number in range(frames):
            writer.write(picture(number, size_wh))
        writer.release()
        return path.read_bytes()


def _images() -> Iterator[bytes]:
    for suffix in (".jpg", ".png", ".webp", ".bmp", ".tiff", ".jp2", ".ppm", ".pgm", ".pam", ".gif", ".avif"):
        for pixels in (picture(), picture()[:, :, 0], picture().astype(np.uint16) * 16):
            with suppress(cv2.error):  # not of this depth, or not with this OpenCV
                is_done, content = cv2.imencode(suffix, pixels)
                if is_done:
                    yield content.tobytes()
    yield cv2.imencode(".jpg", picture(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()


def _labels() -> Iterator[bytes]:
    ids = (picture()[:, :, 2] // 128 + picture()[:, :, 0] // 200).astype(np.uint8)
    yield cv2.imencode(".png", ids)[1].tobytes()
    yield cv2.imencode(".png", ids * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()
    try:
        from PIL import Image as Pillow
    except ImportError:
        return
    for bits in (2, 8):
        buffer = io.BytesIO()
        indexed = Pillow.fromarray(ids).convert("P")
        indexed.save(buffer, "PNG", bits=bits)
        yield buffer.getvalue()


def _classes() -> Iterator[bytes]:
    ids = {"0": "floor", "1": "wall", "2": "door", "3": None}
    colors = {"#000000": "floor", "#ffffff": "wall", "#0a0b0c": "door"}
    palette = [[0, 0, 0], [10, 20, 30], [255, 255, 255]]
    for more in (
        {},
        {"palette": palette, "ignore_index": 255, "terms": "CC BY 4.0"},
        {"class_of": ids, "unlisted": "void"},
        {"class_of": colors, "unlisted": "void", "labels_upright": True, "bits": 12},
    ):
        yield json.dumps({"names": CLASSES, **more}, indent=1).encode()


def _shapes() -> Iterator[bytes]:
    """Yield a file of labels of each format that draws its labels, in the order of `SHAPE_FILES`."""
    width, height = SIZE_WH
    ring = [1.5, 2, 60, 3, 40, 45.25]
    points = [list(pair) for pair in zip(ring[::2], ring[1::2], strict=True)]
    runs = {"size": [height, width], "counts": [100, 50, height * width - 150]}
    yield json.dumps(
        {
            "images": [{"id": 1, "file_name": "a.png", "width": width, "height": height}],
            "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES)],
            "annotations": [
                {"image_id": 1, "category_id": 0, "segmentation": [ring], "iscrowd": 0},
                {"image_id": 1, "category_id": 2, "segmentation": runs, "iscrowd": 1},
                {
                    "image_id": 1,
                    "category_id": 1,
                    "segmentation": {**runs, "counts": "T3b1Zk2"},
                    "iscrowd": 0,
                },
            ],
        }
    ).encode()
    labels = "".join(f"<label><name>{name}</name><color>#0000ff</color></label>" for name in CLASSES)
    corners = ";".join(f"{x},{y}" for x, y in points)
    yield "".join(
        (
            f'<?xml version="1.0" encoding="utf-8"?><annotations><meta><labels>{labels}</labels></meta>',
            f'<image id="0" name="a.png" subset="train" width="{width}" height="{height}">',
            f'<polygon label="wall" z_order="1" points="{corners}"/>',
            '<mask label="door" rle="1, 7, 8" left="3" top="2" width="4" height="4" z_order="0"/>',
            '<ellipse label="floor" cx="9" cy="9" rx="3" ry="2" rotation="30"/>',
            '<box label="floor" xtl="1" ytl="1" xbr="5" ybr="4"/></image></annotations>',
        )
    ).encode()
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    runs_of_brush = "".join(f"100{width * height // 3 * 4 - 1:016b}{value:08b}" for value in (0, 255, 0))
    bits = f"{width * height * 4:032b}{7:05b}{'1111' * 4}{runs_of_brush}"
    brush = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    regions = [
        {**size, "value": {"points": points, "polygonlabels": ["wall"]}},
        {**size, "value": {"format": "rle", "rle": list(brush), "brushlabels": ["door"]}},
        {**size, "value": {"x": 1, "y": 2, "width": 30, "height": 40, "rectanglelabels": ["floor"]}},
    ]
    tasks = [
        {"id": 1, "data": {"image": "/a.png"}, "annotations": [{"result": chosen}]}
        for chosen in (regions, regions[:1])
    ]
    yield json.dumps(tasks).encode()
    yield "".join(f"{number} 0.1 0.1 0.9 0.2 0.5 0.{number + 6}\n" for number in range(3)).encode()
    bitmap = base64.b64encode(zlib.compress(cv2.imencode(".png", np.eye(8, dtype=np.uint8))[1].tobytes()))
    yield json.dumps(
        {
            "size": {"height": height, "width": width},
            "objects": [
                {
                    "classTitle": "wall",
                    "geometryType": "polygon",
                    "points": {"exterior": points, "interior": [points]},
                },
                {
                    "classTitle": "door",
                    "geometryType": "bitmap",
                    "bitmap": {"origin": [3, 4], "data": bitmap.decode()},
                },
            ],
        }
    ).encode()


def _http() -> Iterator[bytes]:
    parts = [
        b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg)
        for jpeg in _jpegs(6)
    ]
    motion = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
    yield motion + b"".join(parts) + b"--frame--\r\n"
    yield motion.replace(b"=frame", b'="--frame"') + b"".join(parts[:2])
    for container, kind in (("mp4", b"video/mp4"), ("webm", b"video/webm"), ("ts", b"video/mp2t")):
        content = seeds(container)[0]
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n" % (kind, len(content))
        yield head + b"Accept-Ranges: bytes\r\n\r\n" + content
    content = seeds("ts")[0]
    ranges = b"HTTP/1.1 206 Partial Content\r\nContent-Type: video/mp2t\r\nContent-Range: bytes 0-%d/%d\r\n"
    yield ranges % (len(content) - 1, len(content)) + b"Content-Length: %d\r\n\r\n%b" % (
        len(content),
        content,
    )
    chunk = b"%x\r\n%b\r\n" % (len(content), content)
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\na.ts\n#EXTINF:1.0,\nb.ts\n#EXT-X-ENDLIST\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\nContent-Length: %d\r\n\r\n"
    yield head % len(playlist) + playlist
    yield b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"
    yield b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm="cam", nonce="1"\r\n\r\n'


def _rtsp() -> Iterator[bytes]:
    """What a camera says to OPTIONS, DESCRIBE, SETUP and PLAY, and pictures as RTP in the same connection."""
    for quality, count in ((40, 4), (90, 2), (70, 6)):
        sdp = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=cam\r\nt=0 0\r\n"
        sdp += b"m=video 0 RTP/AVP 26\r\na=control:track1\r\n"
        described = b"Content-Base: rtsp://127.0.0.1/\r\nContent-Type: application/sdp\r\n"
        answers = (
            b"Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n",
            b"%bContent-Length: %d\r\n\r\n%b" % (described, len(sdp), sdp),
            b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1;timeout=60\r\n\r\n",
            b"Session: 1\r\nRange: npt=0-\r\n\r\n",
        )
        heads = [b"RTSP/1.0 200 OK\r\nCSeq: %d\r\n" % (number + 1) for number in range(len(answers))]
        packets = b"".join(_rtp_of_a_jpeg(number, quality) for number in range(count))
        yield NEXT_ANSWER.join(map(b"".join, zip(heads, answers, strict=True))) + packets


def _rtp_of_a_jpeg(number: int, quality: int) -> bytes:
    """Return a picture as one interleaved packet of RTP (RFC 2326, 3550 and 2435), its tables inside."""
    jpeg = cv2.imencode(".jpg", picture(number), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    tables, place = b"", 2
    while jpeg[place + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", jpeg, place + 2)
        if jpeg[place + 1] == 0xDB:
            body = jpeg[place + 4 : place + 2 + length]
            tables += b"".join(body[start + 1 : start + 65] for start in range(0, len(body), 65))
        place += 2 + length
    (length,) = struct.unpack_from(">H", jpeg, place + 2)
    scan = jpeg[place + 2 + length : -2]
    width, height = SIZE_WH
    header = struct.pack(">IBBBB", 0, 1, 255, width // 8, height // 8)
    header += struct.pack(">BBH", 0, 0, len(tables)) + tables
    rtp = struct.pack(">BBHII", 0x80, 0x80 | 26, number, 90_000 + 6000 * number, 1) + header + scan
    return b"$\0" + struct.pack(">H", len(rtp)) + rtp
