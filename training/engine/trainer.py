"""All the state of a training, one epoch of it, and its way in and out of last.pt."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from runtime.base.codec import from_plain, to_plain
from runtime.contract import ModelContract, Normalization
from runtime.errors import TrainingError
from training.data import SegmentationDataset, channel_statistics
from training.data.loader import Batch
from training.engine.checkpoint import Checkpoint
from training.engine.config import TrainConfig
from training.engine.distributed import Processes
from training.engine.history import EpochRecord, StepLosses, epochs_since_best
from training.engine.losses import SoftTeaching, feature_loss
from training.engine.optimization import WeightAverage, build_optimizer, learning_rate_factor
from training.engine.start import (
    SoftSources,
    build_batches,
    build_contract,
    build_loss,
    refuse_lone_values,
    resumable_state,
)
from training.engine.transfer import (
    Teacher,
    Transfer,
    combined_terms,
    freeze,
    load_teacher,
    read_source,
    transfer_weights,
)
from training.network.build import CameraNetwork, Supervised, SupervisedNetwork, build_network

MAX_GRADIENT_NORM = 5.0

Placed = TypeVar("Placed", bound=nn.Module)


class Trainer:
    """All the state of a training, and its way in and out of last.pt.

    Of several processes each has one; what they do, and in which order, must be the same in all.

    Attributes:
        network: the network that is trained; its state dict has the same names in every kind of training.
        supervised: the network and the auxiliary head beside it, if there is one.
        model: what a step calls: `supervised`, compiled and shared with other processes where asked for.
        teacher: the network to learn from besides the labels, if there is one.
        transfer: what was taken from `config.init_from`; None for a training from random weights.
        frozen: modules of the network that keep their weights and statistics.
        history: the finished epochs.
        losses: of the running epoch's finished steps.
        train_seconds: that the running epoch's steps took, with their loading.
    """

    def __init__(
        self, config: TrainConfig, train_set: SegmentationDataset, processes: Processes | None = None
    ) -> None:
        """Build everything from the config and the data alone; without `processes` there is only this one."""
        self.config = config
        self.processes = processes = processes or Processes()
        self.device = processes.device(config.device)
        source, self.init_sha256 = processes.from_first(lambda: read_source(config.init_from))
        mean_bgr, std_bgr = processes.from_first(lambda: channel_statistics(train_set))
        if source is None:
            # The batch norm behind each network's first convolution takes the mean away for nothing.
            normalization = Normalization((0.0, 0.0, 0.0), std_bgr)
            terms = train_set.terms
        else:
            normalization = source.contract.normalization  # the one that its weights were made for
            terms = combined_terms(
                train_set.terms, "started from", source.contract.name, source.contract.origin.terms
            )
        self.soft = SoftSources.open(config, train_set.classes)
        self._soft_digest = self.soft.digest()  # once, since it looks into every file
        if self.soft.terms:
            terms = combined_terms(terms, "taught by", "soft labels", self.soft.terms)
        self.batches = build_batches(config, train_set, mean_bgr, processes, self.soft)
        self.teaching = SoftTeaching(self.soft.groups or None, len(train_set.classes))
        self.teacher: Teacher | None = None
        if config.teacher is not None:
            path = config.teacher
            self.teacher = processes.from_first(lambda: load_teacher(path, train_set.classes, config.size_hw))
            _place(self.teacher.network, self.device)
            terms = combined_terms(terms, "taught by", self.teacher.name, self.teacher.terms)
        self.contract = build_contract(config, train_set, normalization, mean_bgr, terms)
        torch.manual_seed(config.seed)  # not before: to load a teacher draws random numbers too
        size = config.network_size
        body = build_network(size.kind, size.config, len(train_set.classes))
        self.network = CameraNetwork(body, self.contract.normalization)
        self.transfer: Transfer | None = None
        self.frozen: tuple[nn.Module, ...] = ()
        if source is not None:
            self.transfer = transfer_weights(self.network, train_set.classes, source)
            self.frozen = freeze(self.network, config.freeze, self.transfer)
        self.supervised = SupervisedNetwork(
            self.network,
            len(train_set.classes),
            auxiliary=config.second_head_weight > 0,
            features=self.soft.features if config.feature_weight else (),
        )
        _place(self.supervised, self.device)
        if config.batch_size == processes.world_size:
            self._to_train_mode(self.supervised)
            refuse_lone_values(self.supervised, config.crop_hw or config.size_hw)
        self.average = WeightAverage(self.network, config.average_decay)
        self.model = processes.wrap(self.supervised, self.device)
        if config.compile:
            self.model = torch.compile(self.model)  # type: ignore[assignment]
        self.optimizer = build_optimizer(
            self.supervised, config.optimizer, config.learning_rate, config.weight_decay
        )
        self.scaler = torch.amp.GradScaler(torch.device(self.device).type, enabled=config.precision == "fp16")
        self.loss = build_loss(config, train_set, processes, self.device)
        self.history: list[EpochRecord] = []
        self.losses = self._step_losses()
        self.train_seconds = 0.0
        self._stream: Generator[Batch, None, None] | None = None

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def step(self) -> int:
        """Number of finished steps of the running epoch."""
        return len(self.losses)

    @property
    def best_miou(self) -> float:
        """Highest validation mIoU so far; below any real one before the first."""
        return max((record.miou for record in self.history if record.miou is not None), default=-1.0)

    @property
    def out_of_patience(self) -> bool:
        """Whether validation has given nothing better for as many epochs as the settings allow."""
        return 0 < self.config.patience <= epochs_since_best(self.history)

    def diverges(self) -> bool:
        """Return whether the running epoch's loss is far above the best epoch's, and the first one's too.

        Raises:
            TrainingError: a step since the last call went wrong.
        """
        self.losses.fetch()
        return self.losses.diverge(self.history)

    def state(self) -> dict[str, object]:
        """Return everything that the next step depends on.

        No random generator is among it: each step seeds them anew from its place.

        Raises:
            TrainingError: a step since the last call went wrong.
        """
        self.losses.fetch()
        return {
            "train_config": to_plain(self.config),
            "threads": torch.get_num_threads(),
            "processes": self.processes.world_size,
            "network": self.network.state_dict(),
            "heads": self.supervised.heads_state(),
            "teacher_sha256": None if self.teacher is None else self.teacher.sha256,
            "soft_digest": self._soft_digest,
            "average": self.average.weights,
            "average_updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "init_sha256": self.init_sha256,
            "history": to_plain(self.history),
            "losses": self.losses.values,
            "train_seconds": self.train_seconds,
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue where a last.pt ended.

        Raises:
            TrainingError: a checkpoint without training state, or of a training with other settings or data.
        """
        state = resumable_state(checkpoint, self.config, self.contract, self.state())
        # Sums are split among threads too, so their number shows in the bits.
        torch.set_num_threads(state["threads"])
        self.network.load_state_dict(state["network"])
        self.supervised.load_heads_state(state["heads"])
        self.average.weights = {name: value.to(self.device) for name, value in state["average"].items()}
        self.average.updates = state["average_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.history = [from_plain(EpochRecord, record) for record in state["history"]]
        self.losses = self._step_losses(state["losses"])
        self.train_seconds = state["train_seconds"]

    def checkpoint(self, contract: ModelContract, *, with_training: bool) -> Checkpoint:
        """Return the averaged weights, alone or with what a resume needs."""
        size = self.config.network_size
        weights = {name: value.cpu() for name, value in self.average.weights.items()}
        training = self.state() if with_training else None
        return Checkpoint(size.kind, size.config, contract, weights, training)

    def averaged_network(self) -> CameraNetwork:
        """Return a network with the averaged weights, for validation."""
        return _place(self.checkpoint(self.contract, with_training=False).build(), self.device)

    def train_epoch(self, after_step: Callable[[], None] | None = None) -> tuple[float, float]:
        """Run the epoch's steps that are not done yet; `finish_epoch` then starts the next.

        Args:
            after_step: called after each.

        Returns:
            The mean loss of the epoch's steps and its last learning rate.

        Raises:
            TrainingError: a loss or a gradient that is not a finite number, or an epoch that diverges.
        """
        steps, number = len(self.batches), self.epoch + 1
        self._to_train_mode(self.model)
        if self._stream is None:
            self._stream = self.batches.epochs(self.epoch, self.config.epochs, self.step)
        bar = tqdm(
            islice(self._stream, steps - self.step),
            f"epoch {number}/{self.config.epochs}",
            total=steps,
            initial=self.step,
            leave=False,
            disable=not (self.processes.is_first and sys.stderr.isatty()),
        )
        started = time.monotonic()
        for batch in bar:
            place = self.epoch * steps + self.step
            self.losses.append(self._train_step(*map(self._to_device, batch), place=place))
            self.losses.fetch(but=1)  # a step late, so that an accelerator always has one to go on with
            self.train_seconds += time.monotonic() - started
            if self.losses.values:
                bar.set_postfix(loss=f"{self.losses.values[-1]:.3f}")
            if after_step is not None:
                after_step()
            started = time.monotonic()
        self.losses.fetch()
        self.train_seconds += time.monotonic() - started
        loss = sum(self.losses.values) / steps
        if self.diverges():
            raise TrainingError(
                f"epoch {number}: the training diverges, its mean loss rose to {loss:.3g} from "
                f"{min(record.train_loss for record in self.history):.3g}; best.pt and last.pt are from "
                "before; train again with a lower --learning-rate"
            )
        return loss, self._learning_rate(number * steps - 1)

    def finish_epoch(self, record: EpochRecord) -> None:
        """Note what the epoch gave; the next `train_epoch` runs the next one."""
        self.history.append(record)
        self.losses = self._step_losses()
        self.train_seconds = 0.0

    def bare_images_per_s(self, steps: int) -> float:
        """Measure steps on one batch that is in memory already: the speed that loading could take away from.

        They train the network further, so this comes after all else.
        """
        with closing(self.batches.epochs(0, 1)) as batches:
            batch = [self._to_device(array) for array in next(batches)]
        self._to_train_mode(self.model)
        self._train_step(*batch, place=0).tolist()
        started = time.monotonic()
        for _ in range(steps):
            measured = self._train_step(*batch, place=0)
        measured.tolist()  # waits for an accelerator
        return steps * self.config.batch_size / (time.monotonic() - started)

    def close(self) -> None:
        """End the threads that prepare batches."""
        if self._stream is not None:
            self._stream.close()

    def _step_losses(self, values: Iterable[float] = ()) -> StepLosses:
        """Return the losses of the running epoch, of which steps with these are done."""
        # The scaler leaves out steps with a gradient that is not finite by itself.
        return StepLosses(self.epoch + 1, values, check_gradients=not self.scaler.is_enabled())

    def _to_train_mode(self, model: nn.Module) -> None:
        """Let the network measure its batches and drop at random, but for what is frozen."""
        model.train()
        for module in self.frozen:
            module.eval()

    def _train_step(
        self, images: Tensor, labels: Tensor, soft: Tensor | None = None, *, place: int
    ) -> Tensor:
        """Make one step with this process's rows of a batch.

        Args:
            images: uint8 (N, H, W, 3) BGR.
            labels: uint8 (N, H, W).
            soft: uint8 (N, H / stride, W / stride, groups + features), where there are soft labels.
            place: of the step in the whole training, from 0.

        Returns:
            float32 (2,): the loss of the whole batch and its gradient's norm before clipping.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(place)
        device_type = torch.device(self.device).type
        dtype = torch.float16 if self.config.precision == "fp16" else torch.bfloat16
        # What the network leaves out differs among the processes, what the loss chooses does not.
        self._seed(place, 1 + self.processes.rank)
        with torch.autocast(device_type, dtype, enabled=self.config.precision != "fp32"):
            logits, auxiliary, features = self._run_model(images)
            live = None
            if self.teacher is not None:
                with torch.no_grad():
                    live = self.teacher.network(images)  # (N, classes, any, any)
        self._seed(place, 0)
        loss = self.loss(logits, labels)  # the losses of all processes add up to that of the batch
        for deeper in auxiliary:
            loss = loss + self.config.second_head_weight * self.loss(deeper, labels)
        if features and soft is not None:
            said = soft[..., len(self.soft.groups) :]
            loss = loss + self.config.feature_weight * feature_loss(features, said)
        if (live is not None or soft is not None) and self.config.distill_weight:
            grouped = None if soft is None else soft[..., : len(self.soft.groups)]
            loss = loss + self.config.distill_weight * self.teaching(logits, labels, live, grouped)
        self.optimizer.zero_grad(set_to_none=True)
        scaled = self.scaler.scale(loss * self.processes.world_size)  # DDP takes the mean of gradients
        scaled.backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.supervised.parameters(), MAX_GRADIENT_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.average.update(self.network)
        return torch.stack([self.processes.total(loss), norm])

    def _run_model(self, images: Tensor) -> Supervised:
        """Return what the network and the heads beside it say; the first call compiles."""
        try:
            supervised: Supervised = self.model(images)
        except RuntimeError as error:
            if not (self.config.compile and isinstance(error, torch._dynamo.exc.TorchDynamoException)):
                raise
            reason = " ".join(str(error).strip().split("\n\n")[0].split())
            raise TrainingError(
                f"compile: torch could not compile the network ({reason}); "
                "it needs a C++ compiler, on a GPU also Triton; install it or leave out --compile"
            ) from error
        return supervised

    def _learning_rate(self, place: int) -> float:
        config, steps = self.config, len(self.batches)
        return config.learning_rate * learning_rate_factor(
            place, config.epochs * steps, config.warmup_epochs * steps, config.schedule
        )

    def _seed(self, place: int, stream: int) -> None:
        """Seed torch's generators for one purpose of one step, so that no step depends on what ran before."""
        sequence = np.random.SeedSequence([self.config.seed, place, stream])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))

    def _to_device(self, array: NDArray[np.uint8]) -> Tensor:
        tensor = torch.from_numpy(array)
        if torch.device(self.device).type == "cuda":
            tensor = tensor.pin_memory()  # else the copy would wait for the running step
        return tensor.to(self.device, non_blocking=True)


def _place(network: Placed, device: str) -> Placed:
    """Move a network, with its weights in the layout that images (N, H, W, 3) already have."""
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
