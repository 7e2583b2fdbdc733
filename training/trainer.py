"""All the state of a training, one epoch of it, and its way in and out of last.pt."""

from __future__ import annotations

import dataclasses
import math
import sys

import torch
from tqdm import tqdm

from runtime.codec import from_plain, to_plain
from runtime.contract import GraphOutput, ImageInput, ModelContract, Normalization, Origin
from runtime.errors import TrainingError
from training.checkpoint import Checkpoint
from training.config import TrainConfig
from training.data import (
    Augment,
    AugmentConfig,
    Batches,
    SegmentationDataset,
    channel_statistics,
    class_weights,
    count_pixels,
)
from training.history import EpochRecord
from training.losses import SegmentationLoss
from training.network import SIZES, CameraNetwork, build_network
from training.optimization import WeightAverage, build_optimizer, learning_rate_factor

MAX_GRADIENT_NORM = 5.0


class Trainer:
    """All the state of a training, and its way in and out of last.pt."""

    def __init__(self, config: TrainConfig, train_set: SegmentationDataset) -> None:
        """Build everything from the config and the data alone."""
        torch.manual_seed(config.seed)
        self.config = config
        mean_bgr, std_bgr = channel_statistics(train_set)
        pad_blue, pad_green, pad_red = (round(channel) for channel in mean_bgr)
        augment = Augment(AugmentConfig(crop_hw=config.size_hw, pad_bgr=(pad_blue, pad_green, pad_red)))
        self.batches = Batches(
            train_set, augment, config.batch_size, seed=config.seed, workers=config.workers
        )
        size = SIZES[config.network]
        self.contract = ModelContract(
            name=f"{train_set.name}-{config.network}",
            input=ImageInput(size_hw=config.size_hw),
            output=GraphOutput(stride=size.config.stride),
            classes=train_set.classes,
            normalization=Normalization(mean_bgr, std_bgr),
            origin=Origin(tools={"torch": torch.__version__}, terms=train_set.terms),
        )
        body = build_network(size.kind, size.config, len(train_set.classes))
        self.network = CameraNetwork(body, self.contract.normalization)
        _place(self.network, config.device)
        self.average = WeightAverage(self.network, config.average_decay)
        self.optimizer = build_optimizer(
            self.network, config.optimizer, config.learning_rate, config.weight_decay
        )
        weights = None
        if config.loss == "weighted":
            weights = torch.tensor(class_weights(count_pixels(train_set)), dtype=torch.float32)
        self.loss = SegmentationLoss(config.loss, None if weights is None else weights.to(config.device))
        self.history: list[EpochRecord] = []

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def best_miou(self) -> float:
        """Highest validation mIoU so far; below any real one before the first."""
        return max((record.miou for record in self.history if record.miou is not None), default=-1.0)

    def state(self) -> dict[str, object]:
        """Return everything that the next epoch depends on."""
        return {
            "train_config": to_plain(self.config),
            "threads": torch.get_num_threads(),
            "network": self.network.state_dict(),
            "average": self.average.weights,
            "average_updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "history": to_plain(self.history),
            "random_cpu": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue where a last.pt ended.

        Raises:
            TrainingError: a checkpoint without training state, or of a training with other settings or data.
        """
        state = checkpoint.training
        if state is None:
            raise TrainingError("resume: the checkpoint holds no training state; resume from last.pt")
        theirs = from_plain(TrainConfig, state["train_config"])
        differing = [
            f"{field.name} was {getattr(theirs, field.name)!r}, now {getattr(self.config, field.name)!r}"
            for field in dataclasses.fields(TrainConfig)
            if getattr(theirs, field.name) != getattr(self.config, field.name)
        ]
        if differing:
            raise TrainingError(
                f"resume: expected the settings of the interrupted training, but {'; '.join(differing)}; "
                "give the same flags, or another --out"
            )
        if dataclasses.replace(checkpoint.contract, accuracy=None) != self.contract:
            raise TrainingError(
                "resume: expected the data of the interrupted training, got other classes, colours or terms; "
                "give the same --data and --root, or another --out"
            )
        torch.set_num_threads(
            state["threads"]
        )  # sums are split among threads, so their number shows in the bits
        self.network.load_state_dict(state["network"])
        self.average.weights = {
            name: value.to(self.config.device) for name, value in state["average"].items()
        }
        self.average.updates = state["average_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = [from_plain(EpochRecord, record) for record in state["history"]]
        torch.set_rng_state(state["random_cpu"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random_cuda"])

    def checkpoint(self, contract: ModelContract, *, with_training: bool) -> Checkpoint:
        """Return the averaged weights, alone or with what a resume needs."""
        size = SIZES[self.config.network]
        weights = {name: value.cpu() for name, value in self.average.weights.items()}
        training = self.state() if with_training else None
        return Checkpoint(size.kind, size.config, contract, weights, training)

    def averaged_network(self) -> CameraNetwork:
        """Return a network with the averaged weights, for validation."""
        return _place(self.checkpoint(self.contract, with_training=False).build(), self.config.device)

    def train_epoch(self) -> tuple[float, float]:
        """Run one epoch.

        Returns:
            The mean loss of its steps and its last learning rate.

        Raises:
            TrainingError: a loss that is not a finite number.
        """
        config, steps = self.config, len(self.batches)
        total_steps, warmup_steps = config.epochs * steps, config.warmup_epochs * steps
        autocast = torch.autocast(
            torch.device(config.device).type, torch.bfloat16, enabled=config.precision == "bf16"
        )
        losses: list[float] = []
        self.network.train()
        bar = tqdm(
            self.batches.epoch(self.epoch),
            f"epoch {self.epoch + 1}/{config.epochs}",
            total=steps,
            leave=False,
            disable=not sys.stderr.isatty(),
        )
        for step, (images, labels) in enumerate(bar, start=self.epoch * steps):
            rate = config.learning_rate * learning_rate_factor(
                step, total_steps, warmup_steps, config.schedule
            )
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            with autocast:
                logits = self.network(torch.from_numpy(images).to(config.device))  # (N, classes, h/s, w/s)
            loss = self.loss(logits, torch.from_numpy(labels).to(config.device))
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"epoch {self.epoch + 1}, step {len(losses)}: the loss became {losses[-1]}; finished "
                    "epochs are kept; train again with a lower --learning-rate"
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
            self.optimizer.step()
            self.average.update(self.network)
            bar.set_postfix(loss=f"{losses[-1]:.3f}")
        return sum(losses) / len(losses), rate


def _place(network: CameraNetwork, device: str) -> CameraNetwork:
    """Move a network, with its weights in the layout that images (N, H, W, 3) already have."""
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
