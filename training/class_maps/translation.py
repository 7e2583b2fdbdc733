"""Probabilities of one vocabulary as those of another, by sums over groups of classes.

A file holds groups, each of some classes of the source and some of the target that mean the same together:

    {
      "source": "Cityscapes", "target": "CamVid",
      "groups": [
        {"source": ["traffic light", "traffic sign"], "target": ["sign"]},
        {"source": ["road"], "target": ["road", "road marking"]}
      ]
    }

A class of the source in no group is lost: a pixel counts as far as its probability lies elsewhere. A class of
the target in no group has no partner: nobody teaches it. A file may name both, as "lost" and "unpartnered".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.base.codec import DecodeError, from_plain
from runtime.base.files import read_regular
from runtime.errors import DatasetError

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Group:
    """Classes that mean the same together, by name."""

    source: tuple[str, ...]
    target: tuple[str, ...]


@dataclass(frozen=True)
class ClassMapFile:
    """The content of a class map's file.

    Attributes:
        source: in words, whose classes it maps.
        target: in words, to whose.
        groups: classes that mean the same.
        lost: classes of the source that mean none of the target's.
        unpartnered: classes of the target that no class of the source means.
    """

    source: str
    target: str
    groups: tuple[Group, ...]
    lost: tuple[str, ...] = ()
    unpartnered: tuple[str, ...] = ()


@dataclass(frozen=True)
class Translation:
    """A class map between two given lists of classes.

    Attributes:
        source: names, in the order of the probabilities that are given.
        target: names, in the order of those that are wanted.
        groups: indices into `source` and into `target`, at least one of each; no index is in two groups.
        absent: names that the file maps and neither list has.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    groups: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    absent: tuple[str, ...] = ()

    @property
    def lost(self) -> tuple[str, ...]:
        """Classes of the source that are in no group."""
        mapped = {index for sources, _ in self.groups for index in sources}
        return tuple(name for index, name in enumerate(self.source) if index not in mapped)

    @property
    def unpartnered(self) -> tuple[str, ...]:
        """Classes of the target that are in no group."""
        mapped = {index for _, targets in self.groups for index in targets}
        return tuple(name for index, name in enumerate(self.target) if index not in mapped)

    @property
    def target_groups(self) -> tuple[tuple[int, ...], ...]:
        """The target's side of the groups."""
        return tuple(targets for _, targets in self.groups)

    def to_groups(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sums of the source's probabilities (C, ...) over each group, float32 (groups, ...)."""
        sums = [probabilities[list(sources)].sum(axis=0) for sources, _ in self.groups]
        return np.stack(sums).astype(np.float32)

    def to_target(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities of the target's classes.

        The classes of one group share its sum equally. What the source gave to lost classes is missing from
        the total.

        Args:
            probabilities: float (source classes, ...).

        Returns:
            float32 (target classes, ...).
        """
        sums = self.to_groups(probabilities)
        result = np.zeros((len(self.target), *sums.shape[1:]), np.float32)
        for total, targets in zip(sums, self.target_groups, strict=True):
            result[list(targets)] = total / len(targets)
        return result

    def describe(self) -> str:
        """Return the groups as text, one a line, then what is lost and what has no partner."""
        lines = []
        for sources, targets in self.groups:
            left = ", ".join(self.source[index] for index in sources)
            lines.append(f"{left} → {', '.join(self.target[index] for index in targets)}")
        for names, what in (
            (self.lost, "lost, as no class of the target is meant"),
            (self.unpartnered, "without a partner, so nobody teaches them"),
            (self.absent, "named by the map, but in neither list"),
        ):
            if names:
                lines.append(f"{what}: {', '.join(names)}")
        return "\n".join(lines)


def same_names(source: Sequence[str], target: Sequence[str]) -> Translation:
    """Return the translation between lists of equal names, in any order.

    Raises:
        DatasetError: no name is in both.
    """
    groups = tuple(((source.index(name),), (target.index(name),)) for name in source if name in target)
    if not groups:
        raise DatasetError(
            f"class map: expected classes of equal names, got {list(source)} for {list(target)}; "
            f"name a class map: {', '.join(bundled_maps())}, or a file of your own"
        )
    return Translation(tuple(source), tuple(target), groups)


def open_translation(
    name_or_path: str | Path | None, source: Sequence[str], target: Sequence[str]
) -> Translation:
    """Return the translation that a class map gives for two lists of classes.

    Args:
        name_or_path: a bundled map's name, such as "cityscapes-to-camvid", or a JSON file; None matches equal
            names.
        source: names of the classes whose probabilities are given.
        target: names of the classes that are wanted.

    Raises:
        DatasetError: a map that is missing, damaged, names a class twice, or fits neither list.

    >>> translation = open_translation("cityscapes-to-camvid", ["wall", "road", "ego"], ["road", "building"])
    >>> translation.groups, translation.lost
    ((((0,), (1,)), ((1,), (0,))), ('ego',))
    """
    if name_or_path is None:
        return same_names(source, target)
    described = _read(name_or_path)
    for side in ("source", "target"):
        names = [name for group in described.groups for name in getattr(group, side)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DatasetError(
                f"class map {name_or_path}: expected each class in one group, got {twice[0]!r} of the {side} "
                "in two; leave one out"
            )
    groups, absent = [], []
    for group in described.groups:
        sources = tuple(source.index(name) for name in group.source if name in source)
        targets = tuple(target.index(name) for name in group.target if name in target)
        absent += [name for name in group.source if name not in source]
        absent += [name for name in group.target if name not in target]
        if sources and targets:
            groups.append((sources, targets))
    if not groups:
        raise DatasetError(
            f"class map {name_or_path}: expected groups of {list(source)} and {list(target)}, found none "
            f"that has one of each; it is from {described.source} to {described.target}"
        )
    return Translation(tuple(source), tuple(target), tuple(groups), tuple(absent))


def class_names(name_or_path: str | Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return all classes that a map knows of its source, and of its target.

    Raises:
        DatasetError: a map that is missing or damaged.
    """
    described = _read(name_or_path)
    source = [name for group in described.groups for name in group.source]
    target = [name for group in described.groups for name in group.target]
    return (*source, *described.lost), (*target, *described.unpartnered)


def bundled_maps() -> tuple[str, ...]:
    """Return the names of the maps in the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def map_file(name_or_path: str | Path) -> Path:
    """Return the file of a bundled map by its name, or a user's own by its path."""
    is_bundled = str(name_or_path) in bundled_maps()
    return FOLDER / f"{name_or_path}.json" if is_bundled else Path(name_or_path)


def _read(name_or_path: str | Path) -> ClassMapFile:
    path = map_file(name_or_path)
    try:
        plain = json.loads(read_regular(path).decode("utf-8"))
        return from_plain(ClassMapFile, plain)
    except OSError as error:
        raise DatasetError(
            f"class map {path}: expected one of {', '.join(bundled_maps())}, or a JSON file, got "
            f"{error.strerror}; check the name"
        ) from None
    except DecodeError as error:
        raise DatasetError(f"class map {path}: {error}; correct the file") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"class map {path}: expected JSON, got text that is not ({error}); correct it"
        ) from None
