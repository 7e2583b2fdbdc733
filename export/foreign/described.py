"""What a file, or what lies beside it, says of a network: names, size, preprocessing.

Read are, in this order: the file's own metadata (Ultralytics; OpenVINO's rt_info as Model API writes it into
ONNX; any `names`), then beside it `classes.json`, `labels.txt` or `classes.txt`, Hugging Face's `config.json`
and `preprocessor_config.json` (or `processor_config.json`), PaddleSeg's `deploy.yaml`, mmdeploy's
`pipeline.json`, and KerasHub's `preprocessor.json` or `image_converter.json`. The first that says something
is believed.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.base.shown import shown
from runtime.contract import MAX_CLASSES, ImageFit
from runtime.errors import ConfigError

_LARGEST_BYTES = 4 << 20
# PIL's numbers; its box and Hamming filters are between the two, and Lanczos is near its bicubic.
_PIL_RESAMPLE = {0: "nearest", 1: "antialias-bicubic", 2: "antialias", 3: "antialias-bicubic", 4: "area"}


@dataclass
class Described:
    """What was found, each fact with where it stands.

    Attributes:
        facts: value and place by name: names, palette, ignore_index, size_hw, color, layout, scale, mean,
            std, fit.
        notes: what was seen and not used.
    """

    facts: dict[str, tuple[Any, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def put(self, place: str, **facts: Any) -> None:
        """Keep facts that are known and were not before."""
        for name, value in facts.items():
            if value is not None:
                self.facts.setdefault(name, (value, place))

    def get(self, name: str) -> Any:
        """Return a fact's value; None where nothing says it."""
        return self.facts[name][0] if name in self.facts else None

    def lines(self) -> list[str]:
        """Return what was taken from where, a line each."""
        return [f"{name} {_short(value)} (from {place})" for name, (value, place) in self.facts.items()]


def describe(model_path: Path, metadata: Mapping[str, str]) -> Described:
    """Read all that says something of a model.

    Raises:
        ConfigError: a file for another task, or one beside it that says something impossible.
    """
    found = Described()
    if "names" in metadata and "task" in metadata:
        _ultralytics(found, metadata)
    if any(key.split()[:1] == ["model_info"] for key in metadata):
        _model_info(found, metadata)
    for key in ("names", "class_names", "classes", "labels"):
        if key in metadata and "names" not in found.facts:
            found.put(f"the file's metadata {key!r}", names=_names(_literal(metadata[key])))
    readers: dict[str, Callable[[Described, Any, str], None]] = {
        "classes.json": _classes,
        "labels.txt": _labels,
        "classes.txt": _labels,
        "config.json": _hf_config,
        "preprocessor_config.json": _hf_preprocessor,
        "processor_config.json": _hf_preprocessor,
        "pipeline.json": _mmdeploy,
        "deploy.yaml": _paddleseg,
        "preprocessor.json": _keras,
        "image_converter.json": _keras,
    }
    folders = [model_path.parent]
    if model_path.parent.name == "onnx":  # as Hugging Face's own ONNX files lie
        folders.append(model_path.parent.parent)
    for folder in folders:
        for name, reader in readers.items():
            path = folder / name
            if path.is_file():
                try:
                    reader(found, _plain(path), name)
                except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                    found.notes.append(f"{name} was left out: {shown(error, 120)}")
    return found


def _ultralytics(found: Described, metadata: Mapping[str, str]) -> None:
    """Read what Ultralytics' exporter writes; its predictor letterboxes RGB / 255."""
    task = metadata["task"]
    if task not in ("semantic", "segment-semantic"):
        raise ConfigError(
            f"model: expected a network of semantic segmentation, its metadata say task {shown(task, 60)!r}; "
            "export a semantic model (task=semantic)"
        )
    size = _literal(metadata.get("imgsz", "None"))
    size = (size, size) if isinstance(size, int) else size
    found.put(
        "Ultralytics' metadata",
        names=_names(_literal(metadata["names"])),
        size_hw=_size(size),
        color="rgb",
        scale=255.0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        fit=ImageFit("letterbox"),
    )


def _model_info(found: Described, metadata: Mapping[str, str]) -> None:
    """Read Model API's entries: `model_info labels` and so on, lists with blanks between."""
    info = {
        " ".join(key.split()[1:]): value for key, value in metadata.items() if key.startswith("model_info ")
    }
    kind = info.get("model_type", "Segmentation")
    if "segmentation" not in kind.lower():
        raise ConfigError(f"model: expected semantic segmentation, its model_info says {shown(kind, 60)!r}")
    place = "the file's model_info"
    mean, std = (
        tuple(float(part) for part in info[key].replace(",", " ").split()) if info.get(key) else None
        for key in ("mean_values", "scale_values")
    )
    if mean is not None or std is not None:
        found.put(place, scale=1.0, mean=_triple(mean or (0.0,)), std=_triple(std or (1.0,)))
    if "reverse_input_channels" in info:
        flipped = info["reverse_input_channels"].strip().lower() in ("true", "yes", "1")
        found.put(place, color="rgb" if flipped else "bgr")
    fill = round(float(info.get("pad_value", "0") or 0))
    fits = {
        "standard": ImageFit(),
        "fit_to_window": ImageFit("letterbox", fill_bgr=(fill,) * 3, place="corner"),
        "fit_to_window_letterbox": ImageFit("letterbox", fill_bgr=(fill,) * 3),
        "crop": ImageFit("crop"),
    }
    found.put(
        place, fit=fits.get(info.get("resize_type", "")), names=_names(info.get("labels", "").split() or None)
    )


def _classes(found: Described, plain: Any, place: str) -> None:
    described = {"names": plain} if isinstance(plain, list) else plain
    found.put(place, names=_names(described.get("names")))
    if described.get("palette") is not None:
        found.put(
            place, palette=tuple(tuple(int(channel) for channel in rgb) for rgb in described["palette"])
        )


def _labels(found: Described, plain: Any, place: str) -> None:
    """Read names, a line each, perhaps with their index before them."""
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    numbered = [line.split(maxsplit=1) for line in lines]
    if all(len(part) == 2 and part[0].rstrip(":").isdecimal() for part in numbered):
        found.put(place, names=_names({index.rstrip(":"): name for index, name in numbered}))
    else:
        found.put(place, names=_names(lines))


def _hf_config(found: Described, plain: Any, place: str) -> None:
    """Read a model's config: classes and which label is void."""
    names = _names(plain.get("id2label"))
    found.put(place, names=names)
    void = plain.get("semantic_loss_ignore_index")
    if names is not None and isinstance(void, int) and len(names) <= void <= 255:
        found.put(place, ignore_index=void)


def _hf_preprocessor(found: Described, plain: Any, place: str) -> None:
    """Read an image processor; a switch that is off wins over values that stand there anyway."""
    plain = plain.get("image_processor", plain)  # of processor_config.json
    kind = str(plain.get("image_processor_type", plain.get("feature_extractor_type", "")))
    # MobileViT's has no switch, writes ImageNet's numbers all the same, and leaves them out.
    normalizes = plain.get("do_normalize", "image_mean" in plain and not kind.startswith("MobileViT"))
    scale = 1 / float(plain.get("rescale_factor", 1 / 255)) if plain.get("do_rescale", True) else 1.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if normalizes:
        mean, std = _triple(plain.get("image_mean", (0.5,))), _triple(plain.get("image_std", (0.5,)))
    found.put(place, scale=float(f"{scale:.12g}"), mean=mean, std=std)
    found.put(place, color="bgr" if plain.get("do_flip_channel_order") else "rgb")
    resample = _PIL_RESAMPLE.get(plain.get("resample", 2), "antialias")
    stretch = ImageFit("stretch", resample)  # type: ignore[arg-type]
    size = plain.get("size") if plain.get("do_resize", True) else None
    if isinstance(size, int) and not kind.startswith("Beit"):
        size = {"shortest_edge": size} if plain.get("do_center_crop") else (size, size)
    crop_hw = _hf_size(plain.get("crop_size")) if plain.get("do_center_crop") else None
    if crop_hw is not None:
        short = size.get("shortest_edge") if isinstance(size, dict) else None
        if isinstance(short, int):
            zoom = max(1.0, short / min(crop_hw))
            found.put(place, size_hw=crop_hw, fit=ImageFit("crop", resample, zoom=zoom))  # type: ignore[arg-type]
            return
        if (exact := _hf_size(size)) not in (None, crop_hw):
            found.notes.append(f"{place} stretches to {exact}, then crops; here it is stretched to {crop_hw}")
        found.put(place, size_hw=crop_hw, fit=stretch)
    elif plain.get("keep_aspect_ratio") or (isinstance(size, dict) and "shortest_edge" in size):
        found.notes.append(f"{place} keeps the aspect ratio: choose an --imgsz of the camera's shape")
        found.put(place, fit=stretch)
    else:
        found.put(place, size_hw=_hf_size(size), fit=stretch)


def _hf_size(size: Any) -> tuple[int, int] | None:
    """Return height and width of {"height", "width"}, of one number, or of two."""
    if isinstance(size, dict):
        return _size((size["height"], size["width"])) if "height" in size and "width" in size else None
    return _size((size, size) if isinstance(size, int) else size)


def _mmdeploy(found: Described, plain: Any, place: str) -> None:
    """Read the preprocessing of mmdeploy's SDK; its mean and std are in units of 0..255."""
    tasks = plain["pipeline"]["tasks"]
    transforms = next(task["transforms"] for task in tasks if task.get("module") == "Transform")
    fit, fill = "stretch", 0
    for transform in transforms:
        kind = transform.get("type")
        if kind == "Normalize":
            found.put(
                place,
                scale=1.0,
                mean=_triple(transform["mean"]),
                std=_triple(transform["std"]),
                color="rgb" if transform.get("to_rgb", True) else "bgr",
            )
        elif kind in ("Resize", "CenterCrop"):
            size = transform.get("size", transform.get("crop_size"))
            found.put(place, size_hw=_size((size, size) if isinstance(size, int) else size))
            fit = "crop" if kind == "CenterCrop" else "letterbox" if transform.get("keep_ratio") else fit
        elif kind == "Pad":
            value = transform.get("pad_val", 0)
            value = value.get("img", 0) if isinstance(value, dict) else value
            fill = round(float(value[0] if isinstance(value, list) else value))
    found.put(place, fit=ImageFit(fit, fill_bgr=(fill,) * 3, place="corner"))  # type: ignore[arg-type]


def _paddleseg(found: Described, plain: Any, place: str) -> None:
    """Read PaddleSeg's `Deploy`: RGB / 255, then mean and std; sizes are width and height."""
    deploy = plain["Deploy"]
    found.put(place, color="rgb")
    normalized = False
    for transform in deploy.get("transforms") or ():
        kind = transform.get("type")
        if kind == "Normalize":
            normalized = True
            mean, std = transform.get("mean", [0.5] * 3), transform.get("std", [0.5] * 3)
            found.put(place, scale=255.0, mean=_triple(mean), std=_triple(std))
        elif kind == "Resize":
            width, height = transform.get("target_size", (512, 512))
            fit = "letterbox" if transform.get("keep_ratio") else "stretch"
            found.put(place, size_hw=_size((height, width)), fit=ImageFit(fit, place="corner"))  # type: ignore[arg-type]
        elif kind == "Padding":
            width, height = transform["target_size"]
            value = transform.get("im_padding_value", 127.5)
            fill = round(float(value[0] if isinstance(value, list) else value))
            letterbox = ImageFit("letterbox", fill_bgr=(fill,) * 3, place="corner")
            found.put(place, size_hw=_size((height, width)), fit=letterbox)
        else:
            found.notes.append(f"{place} names the transform {shown(kind, 60)}, which is left out")
    if not normalized:
        found.put(place, scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    shape = deploy.get("input_shape")
    if isinstance(shape, list) and len(shape) == 4 and min(shape[2:]) > 0:
        found.put(place, size_hw=_size(shape[2:]))


def _keras(found: Described, plain: Any, place: str) -> None:
    """Read KerasHub's image converter: pixels * scale + offset."""
    config = plain.get("config", plain)
    inner = config.get("image_converter")
    if isinstance(inner, dict):
        config = inner.get("config", inner)
    if config.get("scale") is not None or config.get("offset") is not None:
        scale, offset = _triple(config.get("scale") or (1.0,)), _triple(config.get("offset") or (0.0,))
        std = tuple(1 / one for one in scale)
        mean = tuple(-of / one for of, one in zip(offset, scale, strict=True))
        found.put(place, scale=1.0, mean=mean, std=std, color="rgb")
    resample = {"bilinear": "bilinear", "bicubic": "bicubic", "nearest": "nearest"}.get(
        config.get("interpolation", "bilinear"), "bilinear"
    )
    mode = (
        "crop"
        if config.get("crop_to_aspect_ratio")
        else "letterbox"
        if config.get("pad_to_aspect_ratio")
        else ""
    )
    size = config.get("image_size")
    found.put(place, size_hw=_size((size, size) if isinstance(size, int) else size))
    if size is not None:
        found.put(place, fit=ImageFit(mode or "stretch", resample, (0, 0, 0)))  # type: ignore[arg-type]


def _plain(path: Path) -> Any:
    """Return what a small JSON or YAML file says, the text itself of one in plain text.

    Raises:
        ValueError: it is neither, or large.
    """
    if path.stat().st_size > _LARGEST_BYTES:
        raise ValueError(f"it has more than {_LARGEST_BYTES >> 20} MiB")
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".txt":
        return text
    if path.suffix == ".json":
        try:
            plain = json.loads(text)
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        if not isinstance(plain, dict | list):
            raise ValueError("it is no object")
        return plain
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError("reading YAML needs PyYAML: pip install pyyaml") from None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"it is no YAML ({error})") from None


def _literal(text: str) -> Any:
    """Return what a Python literal or JSON says, the text itself where it is neither."""
    if len(text) > _LARGEST_BYTES:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text


def _names(said: Any) -> tuple[str, ...] | None:
    """Return class names of {0: "road"}, ["road"] or "road, car"; the same name twice gets its number."""
    if isinstance(said, str):
        said = [part.strip() for part in (said.splitlines() if "\n" in said else said.split(","))]
    if isinstance(said, dict):
        indexed = {int(key): value for key, value in said.items()}
        if sorted(indexed) != list(range(len(indexed))):
            raise ValueError(f"its classes are numbered {sorted(indexed)[:8]}, expected 0 and on")
        said = [indexed[index] for index in range(len(indexed))]
    if not isinstance(said, list | tuple) or not 1 <= len(said) <= MAX_CLASSES:
        return None
    names = [str(name) for name in said]
    return tuple(f"{name} ({index})" if names.count(name) > 1 else name for index, name in enumerate(names))


def _size(said: Any) -> tuple[int, int] | None:
    """Return a height and width; None where they are not two whole numbers above 0."""
    if not isinstance(said, list | tuple) or len(said) != 2:
        return None
    if not all(isinstance(side, int) and side > 0 for side in said):
        return None
    return said[0], said[1]


def _triple(said: Any) -> tuple[float, float, float]:
    """Return three numbers of one or three."""
    numbers = [float(one) for one in (said if isinstance(said, list | tuple) else [said])]
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    if len(numbers) not in (3, 4) or not all(map(math.isfinite, numbers)):
        raise ValueError(f"expected 3 finite numbers, got {numbers}")
    return numbers[0], numbers[1], numbers[2]


def _short(value: Any) -> str:
    """Return a fact as text, class names by their number."""
    if isinstance(value, tuple) and value and isinstance(value[0], str):
        return shown(f"{len(value)}: {', '.join(value[:4])}{', …' if len(value) > 4 else ''}", 120)
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return f"of {len(value)} colours"
    if isinstance(value, tuple):
        return " ".join(f"{one:.6g}" for one in value)
    if isinstance(value, ImageFit):
        return f"{value.mode}, {value.resample}"
    return shown(value, 120)
