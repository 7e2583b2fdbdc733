"""Whether a training may go on with a last.pt: only the very one that wrote it does so bit for bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from runtime.base.codec import DecodeError, from_plain
from runtime.contract import ModelContract
from runtime.errors import TrainingError
from training.engine.checkpoint import Checkpoint
from training.engine.config import CHANGEABLE, TrainConfig


def resumable_state(
    checkpoint: Checkpoint, config: TrainConfig, contract: ModelContract, present: Mapping[str, object]
) -> dict[str, Any]:
    """Return the training state of a last.pt, if it is of the training that would go on with it.

    Args:
        checkpoint: what last.pt holds.
        config: the settings of the training that would go on.
        contract: its network's, without an accuracy.
        present: its state, as it is before it takes over that of the checkpoint.

    Raises:
        TrainingError: a checkpoint without training state, or of a training with other settings or data.
    """
    state = checkpoint.training
    if state is None:
        raise TrainingError("resume: the checkpoint holds no training state; resume from last.pt")
    try:
        theirs = from_plain(TrainConfig, state["train_config"])
    except DecodeError as error:
        raise TrainingError(f"resume: last.pt is of another edgeseg ({error}); use that one") from None
    if state.keys() != present.keys():
        other = ", ".join(sorted(state.keys() ^ present.keys()))
        raise TrainingError(f"resume: last.pt is of another edgeseg (it differs in {other}); use that one")
    differing = [
        f"{field.name} was {getattr(theirs, field.name)!r}, now {getattr(config, field.name)!r}"
        for field in dataclasses.fields(TrainConfig)
        if field.name not in CHANGEABLE and getattr(theirs, field.name) != getattr(config, field.name)
    ]
    if state["processes"] != present["processes"]:  # sums are split among them
        differing.append(f"processes were {state['processes']}, now {present['processes']}")
    if state["init_sha256"] != present["init_sha256"]:
        differing.append("it started from other weights than those that --init-from now names")
    if state["teacher_sha256"] != present["teacher_sha256"]:
        differing.append("it had another teacher than the one that --teacher now names")
    if differing:
        raise TrainingError(
            f"resume: expected the settings of the interrupted training, but {'; '.join(differing)}; "
            "give the same flags, or another --out"
        )
    if dataclasses.replace(checkpoint.contract, accuracy=None) != contract:
        raise TrainingError(
            "resume: expected the data of the interrupted training, got other classes, colours or terms; "
            "give the same --data and --root, or another --out"
        )
    return state
