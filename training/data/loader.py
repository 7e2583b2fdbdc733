"""Batches for training: shuffled, augmented, prefetched by threads, and repeatable.

Every random choice is made from (seed, epoch, position in the epoch), never from what ran before. So
step k of epoch e is the same batch however the run got there, and a resumed run goes on bit for bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ConfigError
from runtime.frame import Image
from training.data.augment import Augment
from training.data.dataset import Sample, SegmentationDataset

Batch = tuple[Image, Image]


class Batches:
    """Endless epochs of augmented batches over a data set.

    The last samples of an epoch that do not fill a batch are left out; the shuffle chooses others the
    next time. OpenCV's own thread count is global to the process and is left to the caller, who knows
    what else runs.

    Attributes:
        batch_size: samples a batch.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        augment: Augment,
        batch_size: int,
        seed: int,
        workers: int = 1,
        cache_bytes: int = 2 << 30,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            dataset: where samples come from.
            augment: makes them equal in size.
            batch_size: samples a batch.
            seed: decides order and augmentation, together with epoch and position.
            workers: threads that prepare batches ahead; 0 prepares each when it is asked for.
            cache_bytes: memory for decoded samples; what does not fit is read again every epoch.

        Raises:
            ConfigError: a number out of range, or more samples a batch than there are.
        """
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("workers", workers, 0),
            ("cache_bytes", cache_bytes, 0),
        ):
            if value < least:
                raise ConfigError(f"{name}: expected at least {least}, got {value}")
        if batch_size > len(dataset):
            raise ConfigError(
                f"batch_size: expected at most the {len(dataset)} samples of {dataset.name} {dataset.split}, "
                f"got {batch_size}; choose a smaller batch"
            )
        self.batch_size = batch_size
        self._dataset = dataset
        self._augment = augment
        self._seed = seed
        self._workers = workers
        self._cache: dict[int, Sample] = {}
        self._cache_room = cache_bytes
        self._cache_lock = Lock()

    def __len__(self) -> int:
        """Return the number of batches an epoch."""
        return len(self._dataset) // self.batch_size

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch in order.

        Args:
            epoch: from 0; any epoch may be asked for at any time.
            start_step: the first batch to make; those before it cost nothing.

        Yields:
            images uint8 (N, H, W, 3) BGR and labels uint8 (N, H, W), fresh arrays that the caller owns.

        Raises:
            DatasetError: a sample that cannot be read, also when a worker thread met it.
        """
        order = self._generator(epoch, 0).permutation(len(self._dataset))
        steps = range(start_step, len(self))
        if self._workers == 0:
            for step in steps:
                yield self._batch(order, epoch, step)
            return
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="batches")
        ahead: deque[Future[Batch]] = deque()
        try:
            for step in steps:
                ahead.append(pool.submit(self._batch, order, epoch, step))
                if len(ahead) > self._workers + 1:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:  # also when the consumer stops early or a batch failed
            pool.shutdown(wait=True, cancel_futures=True)

    def _batch(self, order: NDArray[np.int64], epoch: int, step: int) -> Batch:
        height, width = self._augment.config.crop_hw
        images = np.empty((self.batch_size, height, width, 3), np.uint8)
        labels = np.empty((self.batch_size, height, width), np.uint8)
        for row in range(self.batch_size):
            position = step * self.batch_size + row
            sample = self._augment(self._read(int(order[position])), self._generator(epoch, 1 + position))
            images[row], labels[row] = sample.image_bgr, sample.label
        return images, labels

    def _generator(self, epoch: int, stream: int) -> np.random.Generator:
        """Return the epoch's generator for its order (stream 0) or for one position (from 1)."""
        return np.random.default_rng([self._seed, epoch, stream])

    def _read(self, index: int) -> Sample:
        cached = self._cache.get(index)
        if cached is not None:
            return cached
        sample = self._dataset[index]
        size = sample.image_bgr.nbytes + sample.label.nbytes
        with self._cache_lock:
            if index not in self._cache and size <= self._cache_room:
                self._cache[index] = sample
                self._cache_room -= size
        return sample
