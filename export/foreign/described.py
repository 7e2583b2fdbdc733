"""What a file, or what lies beside it, says of a network: names, size, preprocessing.

Read are, in this order: the file's own metadata (Ultralytics; OpenVINO's rt_info as Model API writes it into
ONNX; any `names`), then beside it `classes.json`, `labels.txt` or `classes.txt`, Hugging Face's `config.json`
and `preprocessor_config.json` (or `processor_config.json`), segmentation-models' `config.json`, PaddleSeg's
`deploy.yaml` or `inference.yml`, mmdeploy's `pipeline.json`, and KerasHub's `preprocessor.json` or
`image_converter.json`. The first that says something is believed.
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

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALVES = ("inceptionresnetv2", "inceptionv4", "xception")  # encoders whose weights want -1 to 1
_LARGEST_BYTES = 4 << 20
# PIL's numbers; its box and Hamming filters are between the two, and Lanczos is near its bicubic.
_PIL_RESAMPLE = {0: "nearest", 1: "antialias-bicubic", 2: "antialias", 3: "antialias-bicubic", 4: "area"}


# What the readers below end with where a file is not as its toolkit writes it.
_ODD = (ArithmeticError, AttributeError, LookupError, OSError, StopIteration, TypeError, ValueError)


@dataclass
class Described:
    """What was found, each fact with where it stands.

    Attributes:
        facts: value and place by name: names, palette, ignore_index, size_hw, color, layout, scale, mean,
            std, fit; without_background, where names may lack the background before them.
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
        return [
            f"{name} {_short(value)} (from {place})"
            for name, (value, place) in self.facts.items()
            if value is not True
        ]

    def drop(self, why: str, *names: str) -> None:
        """Forget facts that are not used, and note why."""
        gone = {name: self.facts.pop(name)[1] for name in names if name in self.facts}
        if gone:
            places = ", ".join(dict.fromkeys(gone.values()))
            self.notes.append(f"{', '.join(gone)} of {places}: not used, {why}")


def describe(model_path: Path, metadata: Mapping[str, str]) -> Described:
    """Read all that says something of a model.

    Raises:
        ConfigError: a file for another task, or one beside it that says something impossible.
    """
    found = Described()
    if "names" in metadata and "task" in metadata:
        _read(found, "Ultralytics' metadata", _ultralytics, metadata)
    if any(key.split()[:1] == ["model_info"] for key in metadata):
        _read(found, "the file's model_info", _model_info, metadata)
    for key in ("names", "class_names", "classes", "labels"):
        if key in metadata and "names" not in found.facts:
            _read(found, f"the file's metadata {key!r}", _listed, metadata[key], key)
    readers: dict[str, Callable[[Described, Any, str], None]] = {
        "classes.json": _classes,
        "labels.txt": _labels,
        "classes.txt": _labels,
        "config.json": _hf_config,
        "preprocessor_config.json": _hf_preprocessor,
        "processor_config.json": _hf_preprocessor,
        "pipeline.json": _mmdeploy,
        "deploy.yaml": _paddleseg,
        "inference.yml": _paddleseg,
        "preprocessor.json": _keras,
        "image_converter.json": _keras,
    }
    folders = [model_path.absolute().parent]
    if folders[0].name == "onnx":  # as Hugging Face's own ONNX files lie
        folders.append(folders[0].parent)
    for folder in folders:
        for name, reader in readers.items():
            path = folder / name
            if path.is_file():
                _read(found, name, _beside, path, reader)
    return found


def _read(found: Described, place: str, reader: Callable[..., None], *arguments: Any) -> None:
    """Add what a place says, or note why nothing of it is used."""
    said = Described()
    try:
        reader(said, *arguments)
    except _ODD as error:
        found.notes.append(f"{place} was left out: {shown(error, 120)}")
        return
    for name, (value, where) in said.facts.items():
        found.facts.setdefault(name, (value, where))
    found.notes += said.notes


def _listed(found: Described, text: str, key: str) -> None:
    """Read names that the file itself lists."""
    found.put(f"the file's metadata {key!r}", names=_names(_literal(text)))


def _beside(found: Described, path: Path, reader: Callable[[Described, Any, str], None]) -> None:
    """Read a file that lies beside the model."""
    reader(found, _plain(path), path.name)


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
        tuple(float(part) for part in info.get(key, "").strip("[]()").replace(",", " ").split())
        for key in ("mean_values", "scale_values")
    )
    # Where neither is written the pixels go in as they are.
    found.put(place, scale=1.0, mean=_triple(mean or (0.0,)), std=_triple(std or (1.0,)))
    if "reverse_input_channels" in info:
        flipped = info["reverse_input_channels"].strip().lower() in ("true", "yes", "1")
        # OTX and Geti read pictures in RGB and turn nothing; Model API reads them in BGR.
        is_rgb = flipped or any(key in info for key in ("otx_version", "getitune_version", "label_info"))
        found.put(place, color="rgb" if is_rgb else "bgr")
    stated = info.get("pad_value", "").strip("[]() ")
    fill = round(float(stated)) if stated not in ("", "None") else 0
    fits = {
        "standard": ImageFit(),
        "fit_to_window": ImageFit("letterbox", fill_bgr=(fill,) * 3, place="corner"),
        "fit_to_window_letterbox": ImageFit("letterbox", fill_bgr=(fill,) * 3),
        "crop": ImageFit("crop"),
    }
    found.put(
        place, fit=fits.get(info.get("resize_type", "")), names=_names(info.get("labels", "").split() or None)
    )
    found.put(place, without_background=True)  # which Model API puts before the labels where they are too few


def _classes(found: Described, plain: Any, place: str) -> None:
    described = plain if isinstance(plain, dict) and "names" in plain else {"names": plain}
    found.put(place, names=_names(described["names"]))
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
    """Read a config: classes and which label is void; of segmentation-models what its encoder wants."""
    encoder = str(plain.get("encoder_name", ""))
    if plain.get("encoder_weights") == "imagenet" and not encoder.startswith(_HALVES):
        found.put(place, scale=255.0, mean=IMAGENET_MEAN, std=IMAGENET_STD, color="rgb")
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
    size_hw: tuple[int, int] | None = None
    fit, fill, padded = "stretch", 0, False
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
            size_hw = _size((size, size) if isinstance(size, int) else size)
            fit = "crop" if kind == "CenterCrop" else "letterbox" if transform.get("keep_ratio") else fit
        elif kind == "Pad":
            padded, size_hw = True, _size(transform.get("size")) or size_hw
            value = transform.get("pad_val", 0)
            value = value.get("img", 0) if isinstance(value, dict) else value
            fill = round(float(value[0] if isinstance(value, list) else value))
    if fit == "letterbox" and not padded:  # whatever comes of the ratio
        found.notes.append(f"{place} keeps the aspect ratio: choose an --imgsz of the camera's shape")
        fit, size_hw = "stretch", None
    found.put(place, size_hw=size_hw)
    found.put(place, fit=ImageFit(fit, fill_bgr=(fill,) * 3, place="corner"))  # type: ignore[arg-type]


def _paddleseg(found: Described, plain: Any, place: str) -> None:
    """Read PaddleSeg's `Deploy`: RGB / 255, then mean and std; sizes are width and height."""
    deploy = plain["Deploy"]
    found.put(place, color="rgb")
    normalized = False
    size_hw: tuple[int, int] | None = None
    fit: ImageFit | None = None
    for transform in deploy.get("transforms") or ():
        kind = transform.get("type")
        if kind == "Normalize":
            normalized = True
            mean, std = transform.get("mean", [0.5] * 3), transform.get("std", [0.5] * 3)
            found.put(place, scale=255.0, mean=_triple(mean), std=_triple(std))
        elif kind == "Resize":
            width, height = transform.get("target_size", (512, 512))
            size_hw = _size((height, width))
            fit = ImageFit("letterbox" if transform.get("keep_ratio") else "stretch", place="corner")
        elif kind == "Padding":
            width, height = transform["target_size"]
            value = transform.get("im_padding_value", 127.5)
            fill = round(float(value[0] if isinstance(value, list) else value))
            if (height, width) != size_hw or fit is None or fit.mode == "letterbox":
                fit = ImageFit("letterbox", fill_bgr=(fill,) * 3, place="corner")
            size_hw = _size((height, width))
        else:
            found.notes.append(f"{place} names the transform {shown(kind, 60)}, which is left out")
    if not normalized:
        found.put(place, scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    found.put(place, size_hw=size_hw, fit=fit)
    shape = deploy.get("input_shape")
    if isinstance(shape, list) and len(shape) == 4:
        found.put(place, size_hw=_size(shape[2:]))


def _keras(found: Described, plain: Any, place: str) -> None:
    """Read KerasHub's image converter: pixels * scale + offset."""
    config = plain.get("config", plain)
    inner = config.get("image_converter")
    if isinstance(inner, dict):
        config = inner.get("config", inner)
    # Without either the pixels go in as they are.
    scale, offset = (
        _triple(usual if config.get(key) is None else config[key])
        for key, usual in (("scale", 1.0), ("offset", 0.0))
    )
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
    if isinstance(said, list | tuple) and said and all(isinstance(one, dict) for one in said):
        said = {one["id"]: one["name"] for one in said}  # [{"id": 0, "name": "road"}]
    if isinstance(said, dict):
        if said and all(isinstance(value, int) for value in said.values()):  # {"road": 0}
            said = {index: name for name, index in said.items()}
        indexed = {int(key): value for key, value in said.items()}
        if sorted(indexed) != list(range(len(indexed))):
            raise ValueError(f"its classes are numbered {sorted(indexed)[:8]}, expected 0 and on")
        said = [indexed[index] for index in range(len(indexed))]
    if not isinstance(said, list | tuple) or not said:
        return None
    if len(said) > MAX_CLASSES:
        raise ValueError(f"it names {len(said)} classes, expected {MAX_CLASSES} at most")
    if not all(isinstance(name, str | int | float) for name in said):
        raise ValueError(f"expected names, got {shown(said[0], 40)}")
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
