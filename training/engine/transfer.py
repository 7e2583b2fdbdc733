"""What a training takes from another: weights to start from, layers to freeze, a teacher to learn from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from runtime.base.files import file_sha256
from runtime.contract import ClassMap
from runtime.errors import CheckpointError, ConfigError
from training.engine.checkpoint import Checkpoint, checkpoint_file, load_checkpoint
from training.engine.config import FREEZES
from training.network.build import CameraNetwork

_RELATION = re.compile(r"^(?:started from|taught by) [^:]*: ")  # in terms, before what they say
MIN_COPIED_SHARE = 0.5  # of the parameters before the classifier; below it is another network, not a variant


@dataclass(frozen=True)
class FreshTensor:
    """A tensor that keeps its random start.

    Attributes:
        name: in the new network's state dict.
        shape: in the new network.
        source_shape: in the source; None if the source has no tensor of this name.
    """

    name: str
    shape: tuple[int, ...]
    source_shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Transfer:
    """What became of every tensor of a network that started from a checkpoint.

    Attributes:
        source: name of the model that the weights come from.
        copied: number of tensors taken over whole; the classifier's are not among them.
        fresh: tensors that keep their random start, whole or in the rows of `fresh_classes`.
        kept_classes: classes whose rows of the classifier were taken over, found by name.
        fresh_classes: the network's other classes.
    """

    source: str
    copied: int
    fresh: tuple[FreshTensor, ...]
    kept_classes: tuple[str, ...]
    fresh_classes: tuple[str, ...]

    def describe(self) -> str:
        """Return the list as text: one line for the classes, one for each re-initialised tensor."""
        lines = [f"weights of {self.source}: {self.copied} tensors copied, {len(self.fresh)} re-initialised"]
        if self.kept_classes:
            lines.append(f"  classifier: rows kept by name: {', '.join(self.kept_classes)}")
        if self.fresh_classes:
            lines.append(f"  classifier: rows re-initialised: {', '.join(self.fresh_classes)}")
        width = max((len(tensor.name) for tensor in self.fresh), default=0)
        for tensor in self.fresh:
            there = "not there" if tensor.source_shape is None else f"there {_shape(tensor.source_shape)}"
            lines.append(f"  {tensor.name:<{width}}  here {_shape(tensor.shape)}, {there}")
        return "\n".join(lines)


def read_source(path: str | Path | None) -> tuple[Checkpoint | None, str]:
    """Return a checkpoint, by path or bundled name, and its file's SHA-256; None and "" for no path.

    Raises:
        CheckpointError: a file that is missing, damaged or no edgeseg checkpoint.
    """
    if path is None:
        return None, ""
    file = checkpoint_file(path)
    return load_checkpoint(file), file_sha256(file)


def transfer_weights(network: CameraNetwork, classes: ClassMap, source: Checkpoint) -> Transfer:
    """Copy into a network all of a checkpoint's weights that fit by name and shape.

    The weights expect pixels normalised as the source normalised them, so `network` must have been built
    with the source's normalisation. A batch norm and its convolution are copied together or not at all:
    the statistics of one say nothing about the output of another. The classifier's rows are matched by
    class name, since another data set has another order.

    Args:
        network: changed in place.
        classes: what the network's logits stand for.
        source: its averaged weights are taken.

    Raises:
        CheckpointError: a damaged source, or one of whose weights less than half the network can be made.
    """
    theirs = source.build()
    here, there = network.state_dict(), theirs.state_dict()  # views: to write into one changes its network
    ours, its = _classifier(network), _classifier(theirs)
    fits = {
        name: name in there and there[name].shape == value.shape
        for name, value in here.items()
        if not name.startswith(ours)
    }
    for layer in _normalized_layers(network):
        members = [name for name in fits if name.startswith(layer)]
        fits.update(dict.fromkeys(members, all(fits[name] for name in members)))
    _refuse_another_network(here, fits, source)
    for name in fits:
        if fits[name]:
            here[name].copy_(there[name])

    kept: tuple[str, ...] = ()
    source_names = source.contract.classes.names
    if here[f"{ours}weight"].shape[1:] == there[f"{its}weight"].shape[1:]:  # both read the same features
        kept = tuple(name for name in classes.names if name in source_names)
        for part in ("weight", "bias"):
            for name in kept:
                here[ours + part][classes.names.index(name)] = there[its + part][source_names.index(name)]

    fresh = [
        FreshTensor(name, tuple(value.shape), tuple(there[name].shape) if name in there else None)
        for name, value in here.items()
        if not fits.get(name, len(kept) == len(classes))
    ]
    return Transfer(
        source=source.contract.name,
        copied=sum(fits.values()),
        fresh=tuple(fresh),
        kept_classes=kept,
        fresh_classes=tuple(name for name in classes.names if name not in kept),
    )


def combined_terms(terms: str, relation: str, name: str, theirs: str) -> str:
    """Return what the data of two trainings allows, since the new weights hold something of both.

    What is said already is not said again, however many trainings follow each other.

    Args:
        terms: of the new training's data, in words.
        relation: how it came by the other's knowledge, "started from" or "taught by".
        name: of the other training's model.
        theirs: its terms.

    >>> combined_terms("ours", "taught by", "camvid-m", "CamVid: research use")
    'ours; taught by camvid-m: CamVid: research use'
    >>> combined_terms("CamVid: research use", "taught by", "m", "CamVid: research use; Cityscapes: research")
    'CamVid: research use; taught by m: Cityscapes: research'
    """
    if not theirs or theirs in terms:
        return terms
    said = {_RELATION.sub("", clause) for clause in terms.split("; ")} | set(terms.split("; "))
    new = [clause for clause in dict.fromkeys(theirs.split("; ")) if _RELATION.sub("", clause) not in said]
    if not new:
        return terms
    return f"{terms}; " * bool(terms) + f"{relation} {name}: {'; '.join(new)}"


def freeze(network: CameraNetwork, part: str, transfer: Transfer) -> tuple[nn.Module, ...]:
    """Exclude a part of a network from training.

    Args:
        network: its frozen parameters need no gradient any more.
        part: a key of `FREEZES`.
        transfer: where the network's weights came from.

    Returns:
        The frozen modules. Their batch norms change in train mode, so a training sets them to eval mode
        whenever it sets the network to train mode.

    Raises:
        ConfigError: a network without such a part, or a part that is not all from the source.
    """
    frozen = {
        f"body.{name}.": module
        for name, module in network.body.named_children()
        if name.startswith(FREEZES[part])
    }
    if part != "none" and not frozen:
        raise ConfigError(
            f"freeze: expected a network that has a part called {part}, got {type(network.body).__name__}; "
            "give --freeze none"
        )
    fresh = [tensor.name for tensor in transfer.fresh if tensor.name.startswith(tuple(frozen))]
    if frozen and fresh:
        raise ConfigError(
            f"freeze: expected a {part} all from {transfer.source}, got {len(fresh)} random "
            f"tensors in it, as {fresh[0]}; give --freeze none or the --network of the source"
        )
    for module in frozen.values():
        module.requires_grad_(False)
    return tuple(frozen.values())


@dataclass(frozen=True)
class Teacher:
    """A finished training that another one learns from.

    Attributes:
        network: in eval mode and without gradients.
        name: of the model.
        sha256: of the checkpoint's file.
        terms: what the teacher's training data allows; its pupils hold something of it.
    """

    network: CameraNetwork
    name: str
    sha256: str
    terms: str


def load_teacher(path: str | Path, classes: ClassMap, size_hw: tuple[int, int]) -> Teacher:
    """Return a checkpoint's network, ready to teach.

    Args:
        path: checkpoint of `training.train`, or name of a bundled one.
        classes: of the network to be taught.
        size_hw: height and width in pixels of the images it will see.

    Raises:
        CheckpointError: a checkpoint that is missing, damaged or unsafe.
        ConfigError: a teacher of other classes, or one that cannot take images of this size.
    """
    file = checkpoint_file(path)
    checkpoint = load_checkpoint(file)
    if checkpoint.contract.classes.names != classes.names:
        raise ConfigError(
            f"teacher {path}: expected the classes {list(classes.names)}, got "
            f"{list(checkpoint.contract.classes.names)}; choose a teacher trained on the same classes"
        )
    multiple = checkpoint.config.size_multiple
    if any(side % multiple for side in size_hw):
        raise ConfigError(
            f"teacher {path}: expected images in multiples of {multiple} pixels, got {size_hw}; "
            "choose another --size or another teacher"
        )
    return Teacher(
        network=checkpoint.build().requires_grad_(False),
        name=checkpoint.contract.name,
        sha256=file_sha256(file),
        terms=checkpoint.contract.origin.terms,
    )


def _classifier(network: CameraNetwork) -> str:
    """Return how the names of the tensors begin that give the logits: those of the last convolution."""
    *_, last = (name for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    return f"{last}."


def _normalized_layers(network: CameraNetwork) -> list[str]:
    """Return how the names of the tensors begin of each module that directly holds a batch norm."""
    return [
        f"{name}."
        for name, module in network.named_modules()
        if any(isinstance(child, nn.BatchNorm2d) for child in module.children())
    ]


def _refuse_another_network(here: dict[str, Tensor], fits: dict[str, bool], source: Checkpoint) -> None:
    """Raise unless most of the network can be made of the source's weights."""
    total = sum(here[name].numel() for name in fits)
    share = sum(here[name].numel() for name, whole in fits.items() if whole) / total
    if share < MIN_COPIED_SHARE:
        raise CheckpointError(
            f"init-from: expected weights that fit the network, got those of {source.contract.name}, from "
            f"which {share:.0%} of it can be made; give the --network that the checkpoint was trained as"
        )


def _shape(shape: tuple[int, ...]) -> str:
    """Say a shape as 16x3x3x3."""
    return "x".join(map(str, shape)) or "scalar"
