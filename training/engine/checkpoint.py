"""Checkpoints: weights, what the network is rebuilt from, its contract, and the state of its training.

A file is checked before torch opens it, see `training.engine.archive`.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.base.codec import to_plain
from runtime.base.files import open_regular, replacing
from runtime.base.shown import shown
from runtime.contract import ModelContract
from runtime.errors import CheckpointError, ContractError
from training.engine.archive import check_archive, check_tensors
from training.network import NetworkConfig
from training.network.build import CameraNetwork, build_network, network_config

FORMAT = "edgeseg.checkpoint/2"
MAX_CONFIG_NUMBER = 4096  # of channels or blocks; beyond, even a plan of the network takes too long


def weights_folder(checkout: Path = Path(__file__).parents[2]) -> Path:
    """Return where the checkpoints lie that come with edgeseg, a missing folder where there are none.

    A checkout holds them in `weights/`; elsewhere the package `edgeseg-weights`, made of that folder, brings
    them. A wheel of edgeseg has none, since a robot that runs networks needs none.
    """
    folder = checkout / "weights" / "edgeseg_weights"
    spec = None if folder.is_dir() else find_spec("edgeseg_weights")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else folder


WEIGHTS = weights_folder()


@dataclass(frozen=True)
class Checkpoint:
    """What a .pt file holds.

    Attributes:
        kind: the network's kind in the registry.
        config: what the network is built from.
        contract: what the runtime will need to know.
        weights: the `CameraNetwork` state dict to evaluate and export (the moving average, if there is one).
        training: all a resumed training needs, as tensors and plain values; None in a file for use only.
    """

    kind: str
    config: NetworkConfig
    contract: ModelContract
    weights: dict[str, Tensor]
    training: dict[str, Any] | None = None

    def build(self) -> CameraNetwork:
        """Rebuild the network, in eval mode, with its weights.

        Raises:
            CheckpointError: a contract or weights that do not fit the network.
        """
        multiple, stride = self.config.size_multiple, self.config.stride
        size_hw, stated = self.contract.input.size_hw, self.contract.output.stride
        if any(side % multiple for side in size_hw) or stated != stride:
            raise CheckpointError(
                f"checkpoint: expected stride {stride} and a size in multiples of {multiple} in its "
                f"contract, got {stated} and {size_hw}; train again"
            )
        self._check_size()
        body = build_network(self.kind, self.config, len(self.contract.classes))
        network = CameraNetwork(body, self.contract.normalization).eval()
        try:
            network.load_state_dict(self.weights)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"checkpoint: expected the weights of its network {self.kind}, got others ({error}); "
                "train again"
            ) from None
        return network

    def with_biases_moved(self, moved: NDArray[np.float32]) -> Checkpoint:
        """Return the same with other biases of the classes; a training that goes on does not know them.

        What was measured and fitted before is left out: accuracy None, temperature 1.

        Args:
            moved: float32 (classes,), added to the logits.

        Raises:
            CheckpointError: as `build`.
        """
        network = self.build()
        bias = network.classifier.bias
        if bias is None:
            raise CheckpointError(f"checkpoint: expected biases in the classifier of {self.kind}, found none")
        with torch.no_grad():
            bias += torch.from_numpy(moved)
        contract = replace(self.contract.with_output(temperature=1.0), accuracy=None)
        return replace(self, weights=network.state_dict(), contract=contract)

    def _check_size(self) -> None:
        """Refuse, before it takes memory, a config of a network larger than its weights."""
        largest = _largest_number(to_plain(self.config))
        if largest > MAX_CONFIG_NUMBER:
            raise CheckpointError(
                f"checkpoint: expected a network of at most {MAX_CONFIG_NUMBER} channels or blocks, its "
                f"config has {largest}; train again"
            )
        with torch.device("meta"):  # shapes without memory
            body = build_network(self.kind, self.config, len(self.contract.classes))
        needed = sum(tensor.numel() for tensor in body.state_dict().values())
        held = (
            sum(tensor.numel() for tensor in self.weights.values() if isinstance(tensor, Tensor))
            if isinstance(self.weights, dict)
            else 0
        )
        if needed > 2 * held + MAX_CONFIG_NUMBER:
            raise CheckpointError(
                f"checkpoint: expected the weights of its network {self.kind}, {needed} numbers, got {held}; "
                "train again"
            )


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        CheckpointError: the file cannot be written; one that was there before is kept.
    """
    content = {
        "format": FORMAT,
        "kind": checkpoint.kind,
        "config": to_plain(checkpoint.config),
        "contract": checkpoint.contract.to_json(),
        "weights": checkpoint.weights,
        "training": checkpoint.training,
    }
    try:
        # Given a name, torch.save puts it into the file; given a file, equal content has equal bytes.
        with replacing(path) as part, open(part, "wb") as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch has its own words for a full disk
        raise CheckpointError(
            f"{path}: cannot write the checkpoint ({str(error).splitlines()[0]}); "
            "make room or choose another place"
        ) from None


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint without running any code it may contain.

    Raises:
        CheckpointError: a file that is missing, truncated, unsafe, or not an edgeseg checkpoint.
    """
    path = Path(path)
    try:
        open_regular(path).close()
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: expected a checkpoint, found no such file; {_where_to_look()}"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: expected a checkpoint, cannot read it ({error.strerror})") from None
    check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # Whatever the unpickler or torch stumble over, the cause is the file: check_archive has refused every
    # pickle that names code, so no defect of ours can end here.
    except Exception as error:
        # An unpickler's words advise to run the code after all.
        words = "" if isinstance(error, pickle.UnpicklingError) else f": {str(error).split(chr(10), 1)[0]}"
        raise CheckpointError(
            f"{path}: the checkpoint is damaged ({shown(type(error).__name__ + words, 200)}); "
            "copy it again or train again"
        ) from None
    check_tensors(path, content)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = (
            content.get("format", "a dict without a format") if isinstance(content, dict) else type(content)
        )
        raise CheckpointError(
            f"{path}: expected an edgeseg checkpoint ({FORMAT}), got {shown(found, 80)}; "
            "use best.pt or last.pt of training.train"
        )
    try:
        return Checkpoint(
            kind=content["kind"],
            config=network_config(content["kind"], content["config"]),
            contract=ModelContract.from_json(content["contract"]),
            weights=content["weights"],
            training=content["training"],
        )
    except (KeyError, TypeError, ContractError) as error:
        raise CheckpointError(f"{path}: the checkpoint is damaged ({error}); train again") from None


def _where_to_look() -> str:
    """Return the advice for a checkpoint that was not found."""
    if names := bundled_names():
        return f"check the path, or name a bundled one ({', '.join(names)})"
    return (
        "check the path; the bundled ones are in a package of their own, made from edgeseg's checkout: "
        "pip install ./weights"
    )


def bundled_names() -> list[str]:
    """Return the names of the checkpoints in this installation."""
    return sorted(path.stem for path in WEIGHTS.glob("*.pt"))


def checkpoint_file(given: str | Path) -> Path:
    """Return the path of a checkpoint that a user named: a file's, or a bundled one's, as in "camvid-s".

    A file of that name in the working directory comes first. What is neither is returned as it is, for
    `load_checkpoint` to refuse.
    """
    path = Path(given)
    if not path.exists() and str(given) in bundled_names():
        return WEIGHTS / f"{given}.pt"
    return path


def _largest_number(plain: Any) -> int:
    """Return the largest integer in a config."""
    if isinstance(plain, dict):
        return max(map(_largest_number, plain.values()), default=0)
    if isinstance(plain, list):
        return max(map(_largest_number, plain), default=0)
    return plain if isinstance(plain, int) else 0
