"""Reads ROS camera files: as much YAML as they use, since the base install has no YAML library."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

from runtime.base.files import open_regular
from runtime.errors import ConfigError
from runtime.ground.camera_model import CameraModel

_LARGEST_BYTES = 1 << 20
_POSE = ("height_m", "pitch_rad", "roll_rad")
# ROS's names of lens models, sensor_msgs/distortion_models.hpp, and OpenCV's.
_MODELS = {
    "plumb_bob": "plumb_bob",
    "rational_polynomial": "plumb_bob",
    "equidistant": "fisheye",
    "fisheye": "fisheye",
}


def read_camera_file(path: Path, pose_path: Path | None = None, *, needs_pose: bool = True) -> dict[str, Any]:
    """Return the arguments of `CameraModel` that a `camera_info` file and a pose file give.

    Raises:
        ConfigError: see `CameraModel.from_yaml`.
    """
    camera = read_yaml(path)
    matrix = _numbers(camera, "camera_matrix", path)
    if len(matrix) != 9 or any(matrix[place] != 0 for place in (1, 3, 6, 7)) or matrix[8] != 1:
        raise ConfigError(
            f"{path}: expected a camera_matrix of [fx, 0, cx, 0, fy, cy, 0, 0, 1], got {matrix}; write the "
            "file with ROS's camera_calibration"
        )
    model = str(camera.get("distortion_model", "plumb_bob")) or "plumb_bob"
    if model not in _MODELS:
        raise ConfigError(f"{path}: expected a distortion_model among {', '.join(_MODELS)}, got {model!r}")
    distortion = (
        _numbers(camera, "distortion_coefficients", path) if "distortion_coefficients" in camera else []
    )
    kept = len(distortion)
    if _MODELS[model] == "plumb_bob" and kept > 8 and not any(distortion[8:]):
        kept = 8  # thin prism and tilt, which are not there
    return {
        "width": _whole(camera, "image_width", path),
        "height": _whole(camera, "image_height", path),
        "fx": matrix[0],
        "fy": matrix[4],
        "cx": matrix[2],
        "cy": matrix[5],
        "distortion": tuple(distortion[:kept]),
        "distortion_model": _MODELS[model],
        **(_pose(camera, path, pose_path) if needs_pose else {"height_m": 1.0, "pitch_rad": math.pi / 4}),
    }


def read_pose(path: Path) -> dict[str, float]:
    """Return height_m, pitch_rad and roll_rad, as far as a pose file gives them.

    Raises:
        ConfigError: see `CameraModel.from_yaml`.
    """
    return _pose({}, path, path)


def _pose(camera: dict[str, Any], path: Path, pose_path: Path | None) -> dict[str, float]:
    """Return height, pitch and roll from their file, the camera's own, or `pose.yaml` beside it."""
    beside = path.with_name("pose.yaml")
    if pose_path is None and not isinstance(camera.get("pose"), dict) and beside.is_file():
        pose_path = beside
    found: Any = camera.get("pose", {})
    source = path
    if pose_path is not None:
        source, found = pose_path, read_yaml(pose_path)
        found = found["pose"] if isinstance(found.get("pose"), dict) else found
    if not isinstance(found, dict) or "height_m" not in found:
        raise ConfigError(
            f"{source}: expected the camera's pose, height_m, pitch_rad and roll_rad, got no height_m; write "
            f"it under pose: there, or into {beside.name} beside it"
        )
    unknown = [name for name in found if name not in _POSE]
    if unknown:
        raise ConfigError(f"{source}: expected a pose of {', '.join(_POSE)}, got {', '.join(unknown)} too")
    return {name: _number(found[name], name, source) for name in _POSE if name in found}


def camera_yaml(camera: CameraModel, name: str, has_pose: bool = True) -> str:
    """Return a camera as ROS's `camera_info` YAML, with its pose under `pose:`.

    Args:
        camera: to write.
        name: what to call it.
        has_pose: whether the pose is known; without it, it is left out.
    """
    lens = {0: "plumb_bob", 4: "plumb_bob", 5: "plumb_bob", 8: "rational_polynomial"}[len(camera.distortion)]
    if camera.distortion_model == "fisheye":
        lens = "equidistant"
    distortion = camera.distortion or (0.0,) * 5
    matrix = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    projection = [*matrix[:3], 0.0, *matrix[3:6], 0.0, *matrix[6:], 0.0]
    matrices = {
        "camera_matrix": (3, 3, matrix),
        "distortion_coefficients": (1, len(distortion), distortion),
        "rectification_matrix": (3, 3, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]),
        "projection_matrix": (3, 4, projection),
    }
    lines = [f"image_width: {camera.width}", f"image_height: {camera.height}", f"camera_name: {name}"]
    for key, (rows, columns, values) in matrices.items():
        if key == "distortion_coefficients":
            lines.append(f"distortion_model: {lens}")
        data = ", ".join(repr(float(value)) for value in values)
        lines += [f"{key}:", f"  rows: {rows}", f"  cols: {columns}", f"  data: [{data}]"]
    if has_pose:
        lines.append("pose:  # over the ground, in metres and radians; a positive pitch looks down")
        lines += [f"  {key}: {getattr(camera, key)!r}" for key in _POSE]
    return "\n".join(lines) + "\n"


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML file's mapping: text, numbers, lists of numbers, and mappings of these.

    Raises:
        ConfigError: a file that cannot be read, or holds more of YAML than that.
    """
    try:
        with open_regular(path) as file:
            data = file.read() if os.fstat(file.fileno()).st_size <= _LARGEST_BYTES else None
        text = None if data is None else data.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: expected a YAML file, cannot read it ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected a YAML file, got bytes that are not UTF-8 text") from None
    if text is None:
        raise ConfigError(f"{path}: expected a small YAML file, got more than {_LARGEST_BYTES >> 20} MiB")
    return _Reader(path, text).mapping()


class _Reader:
    """Reads `key: value`, `key:` with an indented block, `- a` lists, `[a, b]` and `{a: b}` of any length."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines: list[tuple[int, str, int]] = []  # indent, text, number
        depth = 0  # of brackets that a line before left open
        for number, line in enumerate(_without_comments(text).splitlines(), start=1):
            stripped = line.strip()
            if not stripped or stripped in ("---", "...") or line.startswith("%YAML"):
                continue
            if depth > 0:
                indent, before, first = self._lines[-1]
                self._lines[-1] = indent, f"{before} {stripped}", first
            else:
                self._lines.append((len(line) - len(line.lstrip()), stripped, number))
            if depth > 0 or re.search(r"(^|[:-]\s+)[\[{]", stripped):
                bare = re.sub(r"\"[^\"]*\"|'[^']*'", "", stripped)
                depth += sum((one in "[{") - (one in "]}") for one in bare)
        self._next = 0

    def mapping(self, deeper_than: int = -1) -> dict[str, Any]:
        found: dict[str, Any] = {}
        indent = None
        while self._next < len(self._lines):
            here, line, number = self._lines[self._next]
            if here <= deeper_than:
                break
            indent = here if indent is None else indent
            match = re.fullmatch(r"([\w.\-]+|\"[^\"]*\"|'[^']*')\s*:(?:\s+(.*))?", line)
            if match is None or here != indent:
                raise self._wrong(number, line)
            self._next += 1
            key, value = match[1].strip("\"'"), (match[2] or "").strip()
            if key in found:
                raise ConfigError(f"{self._path} line {number}: expected {key} once, got it again")
            found[key] = self._scalar(value, number) if value else self._block(here)
        return found

    def _block(self, indent: int) -> Any:
        """Return what stands under a key: a list, a mapping, or nothing."""
        if self._next == len(self._lines):
            return ""
        here, line, _ = self._lines[self._next]
        if line.startswith("-") and here >= indent:
            items = []
            while self._next < len(self._lines):
                place, line, number = self._lines[self._next]
                match = re.fullmatch(r"-\s+(\S.*)", line)
                if match is None or place != here:
                    break
                items.append(self._scalar(match[1], number))
                self._next += 1
            return items
        if line[0] in "[{" and here >= indent:
            self._next += 1
            return self._scalar(line, self._lines[self._next - 1][2])
        if here <= indent:
            return ""
        if indent > 8:
            raise self._wrong(self._lines[self._next][2], line)
        return self.mapping(indent)

    def _scalar(self, text: str, number: int) -> Any:
        if text[0] in "[{":
            value, end = self._flow(text, 0, number, 0)
            if end != len(text):
                raise self._wrong(number, text)
            return value
        if text[0] in "]}&*!|>@`":
            raise self._wrong(number, text)
        if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
            return text[1:-1]
        try:
            return float(text) if re.search(r"[.eE]|inf|nan", text) else int(text)
        except ValueError:
            return text

    def _flow(self, text: str, start: int, number: int, depth: int) -> tuple[Any, int]:
        """Read `[…]`, `{…}` or a scalar inside of these; return it and where what follows begins."""
        if text[start : start + 1] not in ("[", "{"):
            plain = _PLAIN.match(text, start)
            if plain is None:
                raise self._wrong(number, text[start:] or text)
            return self._scalar(plain[0].strip(), number), plain.end()
        if depth > 8:
            raise self._wrong(number, text)
        items: list[Any] = []
        found: dict[str, Any] = {}
        is_mapping, closing = text[start] == "{", {"[": "]", "{": "}"}[text[start]]
        place = _after_space(text, start + 1)
        while text[place : place + 1] != closing:
            key = ""
            if is_mapping:
                match = _KEY.match(text, place)
                if match is None or match[1].strip("\"'") in found:
                    raise self._wrong(number, text[place:] or text)
                key, place = match[1].strip("\"'"), match.end()
            value, place = self._flow(text, place, number, depth + 1)
            items.append(value)
            found[key] = value
            place = _after_space(text, place)
            if text[place : place + 1] == ",":
                place = _after_space(text, place + 1)
            elif text[place : place + 1] != closing:
                raise self._wrong(number, text)
        return found if is_mapping else items, _after_space(text, place + 1)

    def _wrong(self, number: int, line: str) -> ConfigError:
        return ConfigError(
            f"{self._path} line {number}: expected `name: value` as in a camera_info file, got {line[:60]!r}"
        )


_KEY = re.compile(r"([\w.\-]+|\"[^\"]*\"|'[^']*')\s*:\s*")
_PLAIN = re.compile(r"\"[^\"]*\"|'[^']*'|[^\s\[\]{},][^\[\]{},]*")
_SPACE = re.compile(r"\s*")


def _after_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    return start if match is None else match.end()


def _without_comments(text: str) -> str:
    return re.sub(r"(^|\s)#.*", "", text, flags=re.MULTILINE)


def _numbers(found: dict[str, Any], name: str, path: Path) -> list[float]:
    """Return a matrix's numbers, row after row."""
    value = found.get(name)
    data = value.get("data") if isinstance(value, dict) else value
    if not isinstance(data, list):
        raise ConfigError(f"{path}: expected {name} with data: [numbers], got {str(value)[:60]!r}")
    return [_number(one, name, path) for one in data]


def _number(value: Any, name: str, path: Path) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{path}: expected a finite number as {name}, got {value!r}")
    return float(value)


def _whole(found: dict[str, Any], name: str, path: Path) -> int:
    value = found.get(name)
    if not isinstance(value, int):
        raise ConfigError(f"{path}: expected a whole number as {name}, got {value!r}")
    return value
