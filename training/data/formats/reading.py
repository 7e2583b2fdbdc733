"""What readers of others' formats share: files that may be hostile, names of splits, and the list of classes.

`classes.json` in the data set's folder is optional here. It says of names what it says of ids for a folder of
your own, see `training.data.folder`: `names` chooses and orders the classes, `class_of` maps the data set's
names to them (null is void), `unlisted` says what becomes of names that are not listed. `unlabelled` names
the class of pixels that nobody drew over, or "void".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from runtime.base.codec import DecodeError, from_plain
from runtime.base.files import open_regular
from runtime.base.shown import shown
from runtime.contract import ClassMap, Rgb
from runtime.errors import ContractError, DatasetError
from training.data.dataset import IGNORE
from training.data.folder import FolderClasses, distinct_palette
from training.data.labels import LabelCode
from training.data.pairs import Pair, PairedFiles, last_fifth, plain_name

T = TypeVar("T")

MOST_BYTES = 2 << 30  # of an annotation file; COCO's largest has 0.5 GB
# Shapes have no values of their own: each draws the index of its class.
SHAPES = LabelCode({}, "shapes")
_SPLITS = {
    "training": "train",
    "validation": "val",
    "valid": "val",
    "validate": "val",
    "dev": "val",
    "testing": "test",
}


def read_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return an annotation file's content.

    Raises:
        DatasetError: it is missing, no regular file, or too large.
    """
    try:
        with open_regular(path) as file:
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{path}: expected a file of labels, cannot read it ({reason})") from None
    if len(content) > most_bytes:
        raise DatasetError(f"{path}: expected at most {most_bytes} bytes, got more; split the export")
    return content


def read_json(path: Path, compact: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Return what a JSON file holds.

    Args:
        path: the file.
        compact: gets each object as soon as it is read, and returns what to keep of it.

    Raises:
        DatasetError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(read_bytes(path).decode("utf-8-sig"), object_hook=compact)
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{path}: expected JSON, got text that is not ({error}); export it again"
        ) from None


def take(entry: Any, key: str, kind: type[T], where: object) -> T:
    """Return the field of a JSON object.

    Raises:
        DatasetError: no object, no such field, or one of another type; `float` takes whole numbers too.
    """
    if not isinstance(entry, dict):
        raise DatasetError(f"{where}: expected an object, got {type(entry).__name__}; export it again")
    value = entry.get(key)
    if kind is float and type(value) is int and abs(value) < 1 << 53:
        value = float(value)
    if not isinstance(value, kind):
        found = "nothing" if key not in entry else type(value).__name__
        raise DatasetError(f"{where}: {key}: expected {kind.__name__}, got {found}; export it again")
    return value


def inside(root: Path, name: str, where: object) -> Path:
    """Return a path that a file names, which must lie in the data set's folder.

    Raises:
        DatasetError: an absolute path, or one that leads out of the folder.
    """
    pure = PurePosixPath(name.replace("\\", "/"))
    if (
        not pure.parts
        or pure.is_absolute()
        or ".." in pure.parts
        or re.match(r"[A-Za-z]:", name)
        or "\0" in name
    ):
        raise DatasetError(
            f"{where}: expected a path within {root}, got {shown(name, 100)!r}; write it relative"
        )
    return root.joinpath(*pure.parts)


def split_of(name: str) -> str:
    """Return how this project calls a split.

    >>> [split_of(name) for name in ("Training", "valid", "test", "val2017")]
    ['train', 'val', 'test', 'val']
    """
    plain = re.sub(r"[ _-]?\d{4}$", "", plain_name(name).lower())
    return _SPLITS.get(plain, plain)


def in_order(splits: set[str]) -> tuple[str, ...]:
    """Return splits with "train" and "val" first; these two where the data set has no splits of its own.

    A single split of another name, such as CVAT's "default", is none.
    """
    if len(splits) < 2 and not splits & {"train", "val", "test"}:
        return ("train", "val")
    return tuple(sorted(splits, key=lambda name: (name != "train", name != "val", name)))


def of_split(
    pairs: Sequence[tuple[str, Pair]], split: str, where: object, faults: Sequence[str] = ()
) -> tuple[Pair, ...]:
    """Return the pairs of a split, out of all with the names of theirs, see `in_order`.

    Raises:
        DatasetError: there is no such split, or no pair and no fault that says why.
    """
    if not pairs:
        if faults:
            return ()
        raise DatasetError(f"{where}: expected labelled images, found none; label some and export again")
    names = {name for name, _ in pairs}
    if in_order(names) == ("train", "val") and not names & {"train", "val"}:
        try:
            return last_fifth(tuple(pair for _, pair in pairs), split)
        except DatasetError as error:
            if faults and split in ("train", "val"):
                return ()
            raise DatasetError(f"{where}: {error}") from None
    if split not in names:
        raise DatasetError(
            f"{where}: expected a split out of {', '.join(in_order(names))}, got {split!r}; name one"
        )
    return tuple(pair for name, pair in pairs if name == split)


@dataclass(frozen=True)
class Vocabulary:
    """The classes of a data set, and which of them its own names are.

    Attributes:
        classes: what a network learns.
        index_of: class index, or 255 for void, of each name that the data set uses.
        empty: class index, or 255, of pixels that no shape covers.
        described: what `classes.json` says besides.
    """

    classes: ClassMap
    index_of: Mapping[str, int]
    empty: int
    described: FolderClasses

    @classmethod
    def of(
        cls,
        root: Path,
        names: Sequence[str],
        colors: Mapping[str, Rgb] | None = None,
        *,
        void: Sequence[str] = (),
        adds_background: bool = False,
        only_found: bool = False,
        where: object = "",
    ) -> Vocabulary:
        """Return the classes of a data set.

        Args:
            root: the data set's folder, with or without a `classes.json`.
            names: the data set's own, in order.
            colors: of these names, where it has any.
            void: which of the names are no class.
            adds_background: add a class "background" for pixels that no shape covers, where there is none;
                otherwise they are void. A class of that name is theirs in any case.
            only_found: the names are those that occur, so a `classes.json` may list more.
            where: the file that lists the names.

        Raises:
            DatasetError: no name, too many, or a `classes.json` that does not fit them.
        """
        colors = dict(colors or {})
        names = list(dict.fromkeys(names))
        background = next((name for name in names if name.lower() == "background"), None)
        if background is None and adds_background:
            background = "background"
            names.append(background)
            colors.setdefault(background, (0, 0, 0))
        path = root / "classes.json"
        if path.exists():
            described, target_of = _chosen(path, names, only_found)
            where = path
        else:
            kept = tuple(name for name in names if name not in void)
            described = FolderClasses(kept)
            target_of = {name: None if name in void else name for name in names}
        palette = described.palette or tuple(
            colors.get(name, generated)
            for name, generated in zip(described.names, distinct_palette(len(described.names)), strict=True)
        )
        try:
            classes = ClassMap(described.names, palette, IGNORE, described.traversable)
        except ContractError as error:
            raise DatasetError(f"{where}: {error}") from None
        place = {name: index for index, name in enumerate(classes.names)}
        index_of = {name: IGNORE if target is None else place[target] for name, target in target_of.items()}
        empty = IGNORE if background is None else index_of[background]
        if described.unlabelled:
            empty = IGNORE if described.unlabelled == "void" else place[described.unlabelled]
        return cls(classes, index_of, empty, described)

    def index(self, name: str, where: object) -> int:
        """Return the class index, or 255, of one of the data set's names.

        Raises:
            DatasetError: a name that is not in the data set's own list.
        """
        if name not in self.index_of:
            raise DatasetError(
                f"{where}: expected a class out of the data set's list, got {shown(name, 60)!r}; add it there"
            )
        return self.index_of[name]

    def files(
        self,
        kind: str,
        split: str,
        pairs: Sequence[Pair],
        faults: Sequence[str] = (),
        *,
        code: LabelCode = SHAPES,
        terms: str = "",
        labels_upright: bool | None = None,
    ) -> PairedFiles:
        """Return the data set; shapes were drawn over upright pictures, as browsers show them."""
        if labels_upright is None:
            labels_upright = code is SHAPES
        return PairedFiles(
            kind,
            split,
            self.classes,
            self.described.terms or terms,
            tuple(pairs),
            code,
            tuple(faults),
            labels_upright=labels_upright or self.described.labels_upright,
            bits=self.described.bits,
        )


def _chosen(
    path: Path, names: Sequence[str], only_found: bool
) -> tuple[FolderClasses, dict[str, str | None]]:
    """Return what a `classes.json` says, and the class of each of the data set's names, None for void."""
    stated: Mapping[str, str | None] | None
    try:
        described = from_plain(FolderClasses, read_json(path))
    except DecodeError as error:
        raise DatasetError(f"{path}: {error}; correct the file") from None
    stated = described.class_of
    if stated is None:  # the class between the shapes need not be one of the data set's
        stated = {name: name for name in described.names if name in names or name != described.unlabelled}
    wrong = None
    if described.ignore_index is not None:
        wrong = "expected no ignore_index for a data set that names its classes; write null in class_of"
    elif not only_found and (unknown := sorted(set(stated) - set(names))):
        wrong = f"expected names of the data set's classes, {shown(list(names))}, got {unknown[0]!r}"
    elif strange := sorted({name for name in stated.values() if name} - set(described.names)):
        wrong = f"class_of: expected names out of {list(described.names)}, got {strange[0]!r}"
    elif described.unlabelled not in ("", "void", *described.names):
        wrong = f'unlabelled: expected "void" or a name of a class, got {described.unlabelled!r}'
    elif described.unlisted == "error" and (missing := _missing(described, names, stated)):
        wrong = (
            f"expected a class for each of the data set's names, got none for {missing[0]!r}; list it, or "
            'add "unlisted": "void"'
        )
    elif described.bits is not None and not 8 <= described.bits <= 16:
        wrong = f"bits: expected from 8 to 16, got {described.bits}"
    if wrong:
        raise DatasetError(f"{path}: {wrong}; correct the file")
    return described, {name: stated.get(name) for name in names}


def _missing(described: FolderClasses, names: Sequence[str], stated: Mapping[str, str | None]) -> list[str]:
    """Return the names without a class; what nobody drew over needs none where `unlabelled` gives it one."""
    told = {"background"} if described.unlabelled else set()
    return [name for name in names if name not in stated and name not in told]
