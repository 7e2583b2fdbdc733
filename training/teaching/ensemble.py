"""Several networks as one: the weighted mean of their log-probabilities in one vocabulary, then softmax.

Each network sees the whole frame at its own size, which measured better than crops. Its probabilities are
brought into the common classes by sums (`training.class_maps`). What it gives to classes without a partner
there counts as "none of these" and is spread evenly, so that it has less of a say. Of a class that it does
not know it says nothing: there it repeats what the others say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.base.closing import Closable
from runtime.base.files import file_sha256
from runtime.contract import CAMVID_CLASSES, ClassMap, ModelContract
from runtime.errors import ConfigError, DatasetError
from runtime.frame import Image
from runtime.segmenter import Segmenter, model_path
from training.class_maps.translation import Translation, class_names, open_translation
from training.data.cityscapes import CITYSCAPES_CLASSES
from training.data.folder import distinct_palette
from training.evaluation.probabilities import probabilities_of
from training.teaching.features import frame_features

Probabilities = NDArray[np.float32]  # (C, h, w)

FLOOR = 1e-6  # of a probability, whose logarithm must be finite


@dataclass(frozen=True)
class Member:
    """A network of an ensemble.

    Attributes:
        views: the file, opened once for each size that frames are shown at.
        weight: of its log-probabilities in the mean.
        translation: from its classes into the common ones.
    """

    views: tuple[Segmenter, ...]
    weight: float
    translation: Translation

    @property
    def contract(self) -> ModelContract:
        """What the file says of itself."""
        return self.views[0].contract

    @property
    def knows(self) -> NDArray[np.bool_]:
        """Which of the common classes it can give, (C,)."""
        unknown = self.translation.unpartnered
        return np.array([name not in unknown for name in self.translation.target])

    def __call__(self, image_bgr: Image, size_hw: tuple[int, int], *, flip: bool) -> Probabilities:
        """Return its mean over all views, in the common classes."""
        said = []
        for view in self.views:
            said.append(probabilities_of(view, view.infer(view.fit(image_bgr)), size_hw))
            if flip:
                mirrored = view.infer(view.fit(np.ascontiguousarray(image_bgr[:, ::-1])))
                said.append(probabilities_of(view, mirrored, size_hw)[:, :, ::-1])
        return self.translation.to_target(np.asarray(np.mean(said, axis=0), np.float32))


class Ensemble(Closable):
    """Networks that are asked together.

    Attributes:
        members: the networks.
        classes: the common ones.
        stride: pixels of the frame that a cell of the answer stands for, along each axis.
        speaker: the network that also gives features, see `export.features`; None for none.
        channels: how many features each of its layers gives.
        speaker_sha256: of its file; "" for none.
    """

    def __init__(
        self,
        models: Sequence[str | Path],
        *,
        weights: Sequence[float] = (),
        class_maps: Sequence[str] = (),
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        stride: int = 4,
        threads: int | None = None,
    ) -> None:
        """Open the files.

        Args:
            models: ONNX files with a contract, at least one.
            weights: of each; none for equal ones.
            class_maps: names or files, for networks whose classes are not the common ones. Without any the
                common classes are those of the first network.
            flip: whether each network also sees the frame mirrored.
            scales: sizes that each network sees the frame at, as factors of its own size; others than 1 need
                a file whose size is free.
            stride: see above.
            threads: of each network; None for the physical cores.

        Raises:
            ConfigError: no file, or weights that are not one for each.
            DatasetError: a class map that is missing or damaged, or a network that none fits.
            EdgesegError: as `Segmenter`.
        """
        weights = tuple(weights) or (1.0,) * len(models)
        if not models or len(weights) != len(models):
            raise ConfigError(
                f"weight: expected one for each of {len(models)} models, got {len(weights)}; give --weight "
                "as often as --model, in the same order"
            )
        self._flip = flip
        self.stride = stride
        self.speaker: Segmenter | None = None
        self.channels: tuple[int, ...] = ()
        self.speaker_sha256 = ""
        self.members: tuple[Member, ...] = ()
        opened: list[Segmenter] = []
        try:
            for model in models:
                opened.append(Segmenter(model, threads=threads))
            contracts = [segment.contract for segment in opened]
            speakers = [segment for segment in opened if segment.contract.output.features]
            if len(speakers) > 1:
                raise ConfigError(
                    f"model: expected one file with features at most, got {len(speakers)}; give the others "
                    "without"
                )
            if speakers:
                self.speaker = speakers[0]
                self.channels = tuple(its.shape[0] for its in self.speaker.contract.output.features)
                self.speaker_sha256 = file_sha256(model_path(models[opened.index(self.speaker)]))
            self.classes = _common_classes(contracts, class_maps)
            for own, weight in zip(tuple(opened), weights, strict=True):
                views = []
                for scale in scales:
                    size_hw = _scaled(own.contract, scale)
                    if size_hw == own.size_hw:
                        views.append(own)
                    else:
                        views.append(Segmenter(models[len(self.members)], size_hw=size_hw, threads=threads))
                        opened.append(views[-1])
                translation = _translation(own.contract, class_maps, self.classes)
                self.members = (*self.members, Member(tuple(views), weight, translation))
        except BaseException:
            for segment in opened:
                segment.close()
            raise
        self._opened = opened

    def __call__(self, image_bgr: Image) -> Probabilities:
        """Return what all say together.

        Args:
            image_bgr: uint8 (H, W, 3).

        Returns:
            float32 (C, H / stride, W / stride), rounded up, 0..1; a cell's classes add up to 1.

        Raises:
            EdgesegError: as `Segmenter`.
        """
        size_hw = self._grid(image_bgr)
        said = [member(image_bgr, size_hw, flip=self._flip) for member in self.members]
        return combine(
            said, [member.weight for member in self.members], [member.knows for member in self.members]
        )

    def features(self, image_bgr: Image) -> Image | None:
        """Return what layers of one network say, uint8 (F, H / stride, W / stride); None if none speaks.

        The numbers are those of `training.teaching.features`.

        Args:
            image_bgr: uint8 (H, W, 3).
        """
        if self.speaker is None:
            return None
        return frame_features(self.speaker, image_bgr, self._grid(image_bgr))

    def _grid(self, image_bgr: Image) -> tuple[int, int]:
        height, width = image_bgr.shape[:2]
        return math.ceil(height / self.stride), math.ceil(width / self.stride)

    @property
    def terms(self) -> str:
        """What the networks allow, in words."""
        return "; ".join(
            dict.fromkeys(
                member.contract.origin.terms for member in self.members if member.contract.origin.terms
            )
        )

    def describe(self) -> str:
        """Return what the common classes are made of, network by network."""
        parts = []
        for member in self.members:
            same = member.translation.source == member.translation.target
            what = "the same classes" if same else member.translation.describe()
            parts.append(f"{member.contract.name}, weight {member.weight:g}: {what}")
        return "\n".join(parts)

    def close(self) -> None:
        """Close all files."""
        for segment in self._opened:
            segment.close()


def combine(
    said: Sequence[Probabilities], weights: Sequence[float], knows: Sequence[NDArray[np.bool_]]
) -> Probabilities:
    """Return the softmax of the weighted mean of log-probabilities.

    Args:
        said: of each network, float32 (C, ...), at most 1 in total; what is missing it gave to classes that
            are not among these.
        weights: of each, above 0.
        knows: (C,), the classes that each can give.

    Returns:
        float32 (C, ...), 1 in total.

    >>> sure, unsure = np.array([0.9, 0.1], np.float32), np.array([0.5, 0.5], np.float32)
    >>> both = np.array([True, True])
    >>> combine([sure, unsure], [1, 1], [both, both]).round(2).tolist()  # 3 : 1, the root of 9 : 1
    [0.75, 0.25]
    """
    whole = []
    for one, known in zip(said, knows, strict=True):
        full = one.astype(np.float32)
        full[known] += np.maximum(1 - full.sum(axis=0), 0) / known.sum()
        whole.append(full)
    everyone = np.sum(
        [weight * known for weight, known in zip(weights, knows, strict=True)], axis=0
    )  # (C,) weight of those who know a class
    shape = (-1, *[1] * (whole[0].ndim - 1))
    told = np.sum([weight * one for weight, one in zip(weights, whole, strict=True)], axis=0)
    told = told / np.maximum(everyone, FLOOR).reshape(shape)
    total = np.zeros_like(whole[0])
    for weight, one, known in zip(weights, whole, knows, strict=True):
        heard = np.where(known.reshape(shape), 0, told)
        one = one * np.maximum(1 - heard.sum(axis=0), 0) + heard
        total += np.float32(weight / sum(weights)) * np.log(np.maximum(one, FLOOR))
    total -= total.max(axis=0)
    powers = np.exp(total)
    return np.asarray(powers / powers.sum(axis=0), np.float32)


def _common_classes(contracts: Sequence[ModelContract], class_maps: Sequence[str]) -> ClassMap:
    """Return the classes that a class map leads to, in the order and colours of whoever has them."""
    if not class_maps:
        return contracts[0].classes
    _, wanted = class_names(class_maps[0])
    known = [CAMVID_CLASSES, CITYSCAPES_CLASSES, *(contract.classes for contract in contracts)]
    for classes in known:
        if set(classes.names) == set(wanted):
            return classes
    return ClassMap(wanted, distinct_palette(len(wanted)))


def _translation(contract: ModelContract, class_maps: Sequence[str], classes: ClassMap) -> Translation:
    """Return the translation of a network's classes that loses the fewest of them."""
    names = contract.classes.names
    if set(names) == set(classes.names):
        return open_translation(None, names, classes.names)
    found = []
    for class_map in class_maps:
        try:
            found.append(open_translation(class_map, names, classes.names))
        except DatasetError:
            if len(class_maps) == 1:
                raise
    if not found:
        raise DatasetError(
            f"model {contract.name}: expected classes that a class map brings to {', '.join(classes.names)}, "
            f"got {', '.join(names)}; add --class-map, or leave the model out"
        )
    return min(found, key=lambda translation: (len(translation.lost), len(translation.unpartnered)))


def _scaled(contract: ModelContract, scale: float) -> tuple[int, int]:
    """Return a network's size times a factor, as a size that it takes."""
    step = contract.input.size_multiple
    height, width = (max(step, round(side * scale / step) * step) for side in contract.input.size_hw)
    return height, width
