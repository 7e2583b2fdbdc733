"""Batches for training: shuffled, augmented, prefetched by threads, and repeatable.

Every random choice is made from (seed, epoch, position in the epoch), never from what ran before. So
step k of epoch e is the same batch however the run got there, and a resumed run continues bit for bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import numpy as np

from runtime.errors import ConfigError, DatasetError
from runtime.frame import Image
from training.data.augment import Augment
from training.data.dataset import Sample, SegmentationDataset

Batch = tuple[Image, ...]


class Batches:
    """Endless epochs of augmented batches over a data set.

    The last samples of an epoch that do not fill a batch are left out; the shuffle chooses others the
    next time. OpenCV's own thread count is global to the process and is left to the caller, who knows
    what else runs.

    Attributes:
        batch_size: samples a batch, those of all parts together.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        augment: Augment,
        batch_size: int,
        seed: int,
        workers: int = 1,
        part: int = 0,
        parts: int = 1,
        extras: Sequence[tuple[SegmentationDataset, int]] = (),
        soft_channels: int = 0,
        cache_bytes: int = 2 << 30,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            dataset: where samples come from.
            augment: makes them equal in size.
            batch_size: samples a batch.
            seed: decides order and augmentation, together with epoch and position.
            workers: threads that prepare batches ahead; 0 prepares each when it is asked for.
            part: which rows of every batch to make, from 0; one after the other, the parts are the batch.
            parts: number of equal parts that a batch is dealt into, one for each process.
            extras: more sources of the same classes, each with how many of a batch's samples come from it;
                they are drawn at random and stand at the batch's end.
            soft_channels: of the samples' soft labels, features included; 0 where no source has any.
            cache_bytes: memory for decoded samples; what does not fit is read again every epoch.

        Raises:
            ConfigError: a number out of range, more samples a batch than there are, or a batch that cannot be
                dealt out evenly.
            DatasetError: sources of different classes.
        """
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("workers", workers, 0),
            ("cache_bytes", cache_bytes, 0),
        ):
            if value < least:
                raise ConfigError(f"{name}: expected at least {least}, got {value}")
        extra_a_batch = sum(count for _, count in extras)
        if not 0 <= extra_a_batch < batch_size:
            raise ConfigError(
                f"batch_size: expected at least one of {batch_size} samples from {dataset.name} itself, got "
                f"{extra_a_batch} from other sources; give them smaller shares or choose a larger batch"
            )
        for extra, _ in extras:
            if extra.classes.names != dataset.classes.names:
                raise DatasetError(
                    f"{extra.name}: expected the classes of {dataset.name}, {list(dataset.classes.names)}, "
                    f"got {list(extra.classes.names)}; train without it"
                )
        self._own_a_batch = batch_size - extra_a_batch
        if self._own_a_batch > len(dataset):
            raise ConfigError(
                f"batch_size: expected at most the {len(dataset)} samples of {dataset.name} {dataset.split}, "
                f"got {self._own_a_batch}; choose a smaller batch"
            )
        if batch_size % parts:
            raise ConfigError(
                f"batch_size: expected a multiple of the {parts} processes, got {batch_size}; "
                f"the next is {-(-batch_size // parts) * parts}"
            )
        self.batch_size = batch_size
        self._rows = range(part * batch_size // parts, (part + 1) * batch_size // parts)
        # The source of each place of a batch; the first is dealt out in order, the others at random.
        self._sources = (dataset, *(extra for extra, _ in extras))
        self._source_of = [0] * self._own_a_batch
        for number, (_, count) in enumerate(extras, 1):
            self._source_of += [number] * count
        self._dataset = dataset
        self._soft_channels = soft_channels
        self._augment = augment
        self._seed = seed
        self._workers = workers
        self._cache: dict[tuple[int, int], Sample] = {}  # by source and index
        self._cache_room = cache_bytes
        self._cache_lock = Lock()

    def __len__(self) -> int:
        """Return the number of batches an epoch."""
        return len(self._dataset) // self._own_a_batch

    def epoch(self, epoch: int, start_step: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of one epoch in order; see `epochs`."""
        return self.epochs(epoch, epoch + 1, start_step)

    def epochs(self, first: int, end: int, start_step: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of the epochs from `first` to before `end`, in order.

        Batches are prepared ahead across the end of an epoch, so that none begins with waiting.

        Args:
            first: from 0; any epoch may be asked for at any time.
            end: one more than the last.
            start_step: the first batch of `first` to make; those before it cost nothing.

        Yields:
            images uint8 (N, H, W, 3) BGR, labels uint8 (N, H, W) and, where there are any, soft labels
            uint8 (N, H / stride, W / stride, channels), 0 where nothing is said; fresh arrays that the
            caller owns. N is this part's share of the batch.

        Raises:
            DatasetError: a sample that cannot be read, also when a worker thread met it.
        """
        places = (
            (epoch, step)
            for epoch in range(first, end)
            for step in range(start_step if epoch == first else 0, len(self))
        )
        if self._workers == 0:
            for epoch, step in places:
                yield self._batch(epoch, step)
            return
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="batches")
        ahead: deque[Future[Batch]] = deque()
        try:
            for epoch, step in places:
                ahead.append(pool.submit(self._batch, epoch, step))
                if len(ahead) > self._workers + 1:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:  # also when the consumer stops early or a batch failed
            pool.shutdown(wait=True, cancel_futures=True)

    def _batch(self, epoch: int, step: int) -> Batch:
        order = self._generator(epoch, 0).permutation(len(self._dataset))
        height, width = self._augment.config.crop_hw
        images = np.empty((len(self._rows), height, width, 3), np.uint8)
        labels = np.empty((len(self._rows), height, width), np.uint8)
        stride = self._augment.config.soft_stride
        soft = np.zeros((len(self._rows), height // stride, width // stride, self._soft_channels), np.uint8)
        for row, place in enumerate(self._rows):
            rng = self._generator(epoch, 1 + step * self.batch_size + place)
            source = self._source_of[place]
            if source:
                index = int(rng.integers(len(self._sources[source])))
            else:
                index = int(order[step * self._own_a_batch + place])
            sample = self._read(source, index)
            donor = self._any_sample(rng) if rng.random() < self._augment.config.style else None
            sample = self._augment(sample, rng, donor)
            images[row], labels[row] = sample.image_bgr, sample.label
            if sample.soft is not None:
                soft[row] = sample.soft
        return (images, labels, soft) if self._soft_channels else (images, labels)

    def _any_sample(self, rng: np.random.Generator) -> Sample:
        """Return a sample of any source, as often as they come up in a batch."""
        source = 0
        if len(self._sources) > 1:
            source = self._source_of[int(rng.integers(self.batch_size))]
        return self._read(source, int(rng.integers(len(self._sources[source]))))

    def _generator(self, epoch: int, stream: int) -> np.random.Generator:
        """Return the epoch's generator for its order (stream 0) or for one position (from 1)."""
        return np.random.default_rng([self._seed, epoch, stream])

    def _read(self, source: int, index: int) -> Sample:
        key = (source, index)
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        sample = self._sources[source][index]
        size = sample.image_bgr.nbytes + sample.label.nbytes
        size += 0 if sample.soft is None else sample.soft.nbytes
        with self._cache_lock:
            if key not in self._cache and size <= self._cache_room:
                self._cache[key] = sample
                self._cache_room -= size
        return sample
