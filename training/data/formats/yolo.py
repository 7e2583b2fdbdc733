"""Ultralytics: a YAML of paths and names, with polygons as text or masks as PNG.

    ROOT/data.yaml                    or any other one *.yaml: path, train, val, test, names, masks_dir
    ROOT/images/train/a.jpg
    ROOT/labels/train/a.txt           lines "class x1 y1 x2 y2 …" in shares of the upright picture's size
    ROOT/masks/train/a.png            where the YAML says `masks_dir: masks`: class ids, 255 is void

After the pages on instance and semantic segmentation data sets of docs.ultralytics.com. A label file lies
where its image does, with the last folder `images` replaced. Small polygons are drawn over large ones. Pixels
without a polygon are "background", which comes after the named classes; an image without a text has nothing
else. `label_mapping` maps the values of masks. Paths in the YAML never lead out of the folder: `path`, where
the data lay for its author, is left out unless it is a folder in there, and so are "../" before the others.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from runtime.base.images import IMAGE_SUFFIXES, is_clutter
from runtime.base.shown import shown
from runtime.errors import DatasetError
from training.data.dataset import IGNORE
from training.data.formats.reading import Vocabulary, in_order, inside, of_split, read_bytes
from training.data.formats.shapes import Drawing, DrawnLabel, Polygons, ShapeError, Size, ring_of
from training.data.labels import LabelCode
from training.data.pairs import Pair, PairedFiles

_SPLITS = ("train", "val", "test")
_MOST_YAML_BYTES = 1 << 20
_MOST_TEXT_BYTES = 1 << 26
_MASK_SUFFIXES = (".png", ".PNG", ".tif", ".tiff", ".bmp")


def open_yolo(root: Path, split: str) -> PairedFiles:
    """Open one split.

    Args:
        root: the folder that holds the YAML.
        split: "train", "val" or "test".

    Raises:
        DatasetError: an unknown split, a YAML that is damaged or names what is not there.
    """
    path, said = _read_yaml(root)
    if split not in _stated(said):
        raise DatasetError(
            f"{path}: expected a split out of {', '.join(_stated(said))}, got {split!r}; name one"
        )
    masks_dir = said.get("masks_dir")
    names = _names(said, path)
    vocabulary = Vocabulary.of(root, list(names.values()), adds_background=not masks_dir, where=path)
    images = _images(said[split], root, path, split, said)
    if masks_dir:
        code = _mask_code(said, names, vocabulary, path)
        masks = inside(root, str(masks_dir), path).name
        pairs, faults = [], []
        for image in images:
            place = _beside(image, root, masks)
            mask = next((mask for end in _MASK_SUFFIXES if (mask := place.with_suffix(end)).exists()), None)
            if mask is None:
                faults.append(f"{image}: expected its mask {place.with_suffix('.png')}, found none; add it")
            else:
                pairs.append((split, Pair(image, mask)))
        return vocabulary.files("yolo", split, of_split(pairs, split, path, faults), faults, code=code)
    indices = {number: vocabulary.index(name, path) for number, name in names.items()}
    texts = {image: _beside(image, root, "labels").with_suffix(".txt") for image in images}
    if not any(text.exists() for text in texts.values()):
        raise DatasetError(
            f"{path}: expected label texts such as {next(iter(texts.values()))}, found none for {split}; "
            "copy them there, or name masks_dir"
        )
    return vocabulary.files(
        "yolo",
        split,
        [
            Pair(image, DrawnLabel(str(text), _Text(text, indices), vocabulary.empty, small_on_top=True))
            for image, text in texts.items()
        ],
    )


def yolo_splits(root: Path) -> tuple[str, ...]:
    """Return the splits that the YAML names."""
    said = _read_yaml(root)[1]
    return in_order(set(_stated(said)))


class _Text:
    """Reads the polygons of one label text."""

    def __init__(self, path: Path, indices: dict[int, int]) -> None:
        self._path, self._indices = path, indices

    def __call__(self, size_hw: Size) -> Drawing:
        if not self._path.exists():
            return size_hw, []
        shapes = []
        text = read_bytes(self._path, _MOST_TEXT_BYTES).decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), start=1):
            where = f"{self._path} line {number}"
            words = line.split()
            if not words:
                continue
            try:
                first, numbers = float(words[0]), [float(word) for word in words[1:]]
            except ValueError:
                raise DatasetError(f"{where}: expected numbers, got {line[:60]!r}; export it again") from None
            if first not in self._indices:
                raise DatasetError(
                    f"{where}: expected a class out of the YAML's names, got {words[0]}; correct it"
                )
            if len(numbers) == 4:
                raise DatasetError(f"{where}: expected a polygon, got a box; export for segmentation")
            try:
                ring = ring_of(numbers)
            except ShapeError as error:
                raise DatasetError(f"{where}: {error}; export it again") from None
            if len(ring) and not (ring.min() >= -0.01 and ring.max() <= 1.01):
                raise DatasetError(
                    f"{where}: expected shares of the picture from 0 to 1, got {ring.min():g} to "
                    f"{ring.max():g}; export it again"
                )
            shapes.append(Polygons(self._indices[int(first)], ((ring * (size_hw[1], size_hw[0]),),)))
        return size_hw, shapes


def _read_yaml(root: Path) -> tuple[Path, dict[str, Any]]:
    """Return the one YAML of the folder and what it says."""
    paths = [path for path in sorted(root.glob("*.y*ml")) if not is_clutter(path.name)]
    paths = [path for path in paths if path.stem in ("data", "dataset")] or paths
    if len(paths) != 1:
        found = ", ".join(path.name for path in paths[:4]) or "none"
        raise DatasetError(
            f"{root}: expected one YAML such as data.yaml, found {found}; keep one, check --root"
        )
    path = paths[0]
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise DatasetError(f"{path}: reading it needs PyYAML: pip install pyyaml") from None
    try:
        said = yaml.safe_load(read_bytes(path, _MOST_YAML_BYTES))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DatasetError(
            f"{path}: expected YAML, got text that is not ({shown(error, 200)}); correct it"
        ) from None
    if not isinstance(said, dict) or "names" not in said:
        raise DatasetError(f"{path}: expected fields train, val and names, got others; check --root")
    return path, said


def _stated(said: dict[str, Any]) -> list[str]:
    return [split for split in _SPLITS if said.get(split)]


def _names(said: dict[str, Any], path: Path) -> dict[int, str]:
    """Return the class names by their ids, of a list or a mapping."""
    names = said["names"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(
        type(key) is int and isinstance(name, str | int | float) for key, name in names.items()
    ):
        raise DatasetError(f"{path}: names: expected a list of names, or names by ids from 0; correct it")
    return {key: str(names[key]) for key in sorted(names)}


def _mask_code(said: dict[str, Any], names: dict[int, str], vocabulary: Vocabulary, path: Path) -> LabelCode:
    """Return what the values of masks mean: ids, or what `label_mapping` makes of them."""
    class_of = {number: vocabulary.index(name, path) for number, name in names.items()}
    mapping = said.get("label_mapping")
    if mapping is not None:
        if not isinstance(mapping, dict):
            raise DatasetError(f"{path}: label_mapping: expected ids by ids, got {type(mapping).__name__}")
        mapped = {}
        for value, target in mapping.items():
            if type(value) is not int or (target not in class_of and target not in ("ignore_label", IGNORE)):
                raise DatasetError(
                    f'{path}: label_mapping: expected an id of names or "ignore_label", got '
                    f"{str(target)[:60]!r} for {str(value)[:60]!r}; correct it"
                )
            mapped[value] = class_of.get(target, IGNORE)
        class_of = mapped
    class_of.setdefault(IGNORE, IGNORE)
    class_of = {value: index for value, index in class_of.items() if 0 <= value <= 255}
    return LabelCode(class_of, "ids of the YAML's names, or 255 for void")


def _images(stated: Any, root: Path, path: Path, split: str, said: dict[str, Any]) -> list[Path]:
    """Return the images of a split: those in folders, or listed in text files."""
    images: list[Path] = []
    for each in stated if isinstance(stated, list) else [stated]:
        place = _place(str(each), root, path, said)
        if place.suffix == ".txt":
            for line in read_bytes(place, _MOST_TEXT_BYTES).decode("utf-8", "replace").splitlines():
                if line.strip():
                    images.append(_place(line.strip(), root, place, said))
        elif place.is_dir():
            images += [
                file
                for file in place.rglob("*")
                if file.suffix.lower() in IMAGE_SUFFIXES and not is_clutter(file.relative_to(place))
            ]
        else:
            raise DatasetError(f"{path}: {split}: expected the folder {place}, found none; copy it there")
    if not images:
        raise DatasetError(f"{path}: {split}: expected images, found none; check the paths in it")
    return sorted(set(images))


def _place(stated: str, root: Path, path: Path, said: dict[str, Any]) -> Path:
    """Return a path of the YAML within the folder."""
    if Path(stated).is_absolute() and Path(stated).is_relative_to(root.absolute()):
        return root / Path(stated).relative_to(root.absolute())
    plain = re.sub(r"^(\.{1,2}/)+", "", stated)
    author = str(said.get("path") or "")
    if author and not Path(author).is_absolute() and ".." not in Path(author).parts:
        beneath = inside(root, f"{author}/{plain}", path)
        if beneath.exists():
            return beneath
    place = inside(root, plain, path)
    if not place.exists() and plain.startswith("data/"):  # which CVAT puts before paths within the export
        return inside(root, plain.removeprefix("data/"), path)
    return place


def _beside(image: Path, root: Path, folder: str) -> Path:
    """Return where another folder has what belongs to an image: the last "images" of its path replaced."""
    parts = list(image.relative_to(root).parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = folder
            break
    return root.joinpath(*parts)
