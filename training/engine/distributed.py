"""The processes of one training: who each is, what they add up, and how all end when one does.

`torchrun` starts them and tells each its place by environment variables; without these there is one
process, and everything here does nothing. A step's batch is dealt out by rows, so a training's settings
and its numbers do not depend on how many processes share the work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from runtime.base.command import EXIT_ERROR, EXIT_INTERRUPTED
from runtime.errors import ConfigError, TrainingError

_PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_FAILED = "edgeseg/failed"  # the store's count of processes that failed

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """The place of this process among those of the training.

    Attributes:
        rank: from 0; the first alone writes files and prints.
        world_size: number of processes on all machines.
        local_rank: from 0 on each machine; chooses the GPU.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """Return this process's own device for the setting `name`: with several, "cuda" is one GPU each."""
        return f"cuda:{self.local_rank}" if name == "cuda" and self.world_size > 1 else name

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of every process's `values`, which all have one shape and dtype."""
        values = values.detach().clone()
        if self.world_size > 1:
            distributed.all_reduce(values)
        return values

    def from_first(self, make: Callable[[], Value]) -> Value:
        """Let the first process make a value and give it to all."""
        made = [make() if self.is_first else None]
        if self.world_size > 1:
            distributed.broadcast_object_list(made)
        return made[0]  # type: ignore[return-value]

    def share(self, count: int, block: int) -> list[int]:
        """Return which of `count` samples this process measures; the shares of all are all of them.

        Dealt in blocks of `block`, so that work done block by block is the same as of one process alone.

        >>> Processes(rank=1, world_size=2).share(9, block=2)
        [2, 3, 6, 7]
        """
        return [index for index in range(count) if index // block % self.world_size == self.rank]

    def wrap(self, network: nn.Module, device: str) -> nn.Module:
        """Return `network` with gradients averaged and batch norms measured over all processes.

        The names of its own state dict stay as they are.
        """
        if self.world_size == 1:
            return network
        synchronize_batch_norms(network, device)
        gpus = [torch.device(device)] if torch.device(device).type == "cuda" else None
        return DistributedDataParallel(network, device_ids=gpus)


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """Join the other processes of a `torchrun`, or be the only one.

    When one process fails, it says so in one line and all end with its exit code; the others are silent.

    Args:
        device: the training's `--device`; "cuda" joins by NCCL, all else by gloo.

    Raises:
        ConfigError: more processes than GPUs, or a single GPU for all.
        TrainingError: the environment names only part of the place, the others cannot be reached, or one
            was lost.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    missing = [name for name in _PLACE if name not in os.environ]
    if missing:
        raise TrainingError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']}: expected {', '.join(missing)} too; "
            "start several processes with torchrun, or unset WORLD_SIZE"
        )
    rank, world_size, local_rank = (int(os.environ[name]) for name in _PLACE[:3])
    processes = Processes(rank, world_size, local_rank)
    backend = "nccl" if device == "cuda" else "gloo"
    try:
        store, _, _ = next(rendezvous("env://"))
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"expected {world_size} processes, could not reach the others at {os.environ['MASTER_ADDR']}:"
            f"{os.environ['MASTER_PORT']} ({str(error).splitlines()[0]}); start again"
        ) from None
    try:
        _check_device(device, local_rank)
        if device == "cuda":
            torch.cuda.set_device(local_rank)
        distributed.init_process_group(
            backend, store=PrefixStore("edgeseg", store), rank=rank, world_size=world_size
        )
        yield processes
        distributed.barrier()  # nobody leaves while another still needs it
        if backend == "nccl":  # not after a failure: it would wait for those that are gone
            distributed.destroy_process_group()
    except KeyboardInterrupt:
        if not processes.is_first:
            raise SystemExit(EXIT_INTERRUPTED) from None
        raise
    except Exception as error:
        if not _is_first_to_fail(store):
            raise SystemExit(EXIT_ERROR) from None
        if _tells_of_a_lost_process(error):
            raise TrainingError(
                f"process {rank} of {world_size} lost contact with another one, which was killed, ran out of "
                "memory or whose machine is down; look there, then continue with --resume"
            ) from error
        raise
    finally:
        if backend == "gloo" and distributed.is_initialized():
            distributed.destroy_process_group()  # left to the interpreter's end, it aborts the process


def _check_device(device: str, local_rank: int) -> None:
    """Refuse processes that would share one GPU."""
    if not device.startswith("cuda"):
        return
    gpus = torch.cuda.device_count()
    if device != "cuda" or local_rank >= gpus:
        raise ConfigError(
            f"device {device}: expected a GPU for each of the processes, got process {local_rank} of a "
            f"machine with {gpus}; give --device cuda and at most that many --nproc-per-node"
        )


def _is_first_to_fail(store: Store) -> bool:
    """Return whether no other process has failed before; true when none can be asked."""
    try:
        return bool(store.add(_FAILED, 1) == 1)
    except RuntimeError:
        return True


def _tells_of_a_lost_process(error: BaseException) -> bool:
    """Return whether an error comes from talking to the other processes; gloo's have no type of their own."""
    return isinstance(error, distributed.DistError) or (
        type(error) is RuntimeError and "gloo" in str(error).lower()
    )


def synchronize_batch_norms(network: nn.Module, device: str) -> None:
    """Make every batch norm of `network` measure the batch of all processes; names and values stay.

    On a GPU by PyTorch's `SyncBatchNorm`, elsewhere by `SynchronizedBatchNorm`.
    """
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            if torch.device(device).type == "cuda":
                converted = nn.SyncBatchNorm.convert_sync_batchnorm(child)  # type: ignore[no-untyped-call]
                setattr(network, name, converted)
            else:
                setattr(network, name, SynchronizedBatchNorm.like(child))
        else:
            synchronize_batch_norms(child, device)


class SynchronizedBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose training statistics are those of all processes together.

    Needs equal shapes on all processes.
    """

    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    @classmethod
    def like(cls, norm: nn.BatchNorm2d) -> SynchronizedBatchNorm:
        """Return one with the parameters and statistics of `norm`, shared."""
        made = cls(norm.num_features, norm.eps, norm.momentum)
        made._parameters, made._buffers = norm._parameters, norm._buffers
        return made.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) → the same, normalised."""
        x = input.float()
        if not self.training:
            return super().forward(input)
        count = x.numel() // x.shape[1] * distributed.get_world_size()
        mean = _total(x.sum((0, 2, 3))) / count  # (C,)
        centred = x - mean[:, None, None]
        variance = _total(centred.square().sum((0, 2, 3))) / count  # (C,)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)  # (C,)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


class _Total(torch.autograd.Function):
    """The sum over all processes; each one's share of the result's gradient flows to every process."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total


def _total(values: Tensor) -> Tensor:
    total: Tensor = _Total.apply(values)  # type: ignore[no-untyped-call]
    return total
