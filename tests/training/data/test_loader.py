import dataclasses
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from runtime.contract import CAMVID_CLASSES, ClassMap
from runtime.errors import ConfigError, DatasetError
from training.data import Augment, AugmentConfig, Batches, Sample

AUGMENT = Augment(AugmentConfig((24, 32)))
WINDOW = Augment(
    AugmentConfig(
        (48, 64),
        (1, 1),
        flip=0,
        brightness=(0, 0),
        contrast=(1, 1),
        gamma=(1, 1),
        saturation=(1, 1),
        hue_deg=(0, 0),
        white_balance=(1, 1),
        noise=0,
        blur=0,
    )
)


@dataclass
class CountedDataset:
    """Samples from memory that count how often each is read; one may be broken."""

    samples: list[Sample]
    broken: int = -1
    name: str = "counted"
    split: str = "train"
    classes: ClassMap = CAMVID_CLASSES
    terms: str = ""
    reads: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        self.reads.append(index)
        if index == self.broken:
            raise DatasetError(f"{index}: broken")
        return self.samples[index]


@pytest.fixture
def dataset(make_sample: Callable[..., Sample]) -> CountedDataset:
    samples = [make_sample(seed) for seed in range(11)]
    for index, sample in enumerate(samples):
        sample.image_bgr[:, :, 2] = index  # so that a batch tells which samples are in it
    return CountedDataset(samples)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def same(first: list[tuple[np.ndarray, np.ndarray]], second: list[tuple[np.ndarray, np.ndarray]]) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(a, b)
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def test_batches_have_the_crops_shape(dataset: CountedDataset) -> None:
    for images, labels in Batches(dataset, AUGMENT, batch_size=4, seed=0).epoch(0):
        assert (images.shape, images.dtype) == ((4, 24, 32, 3), np.uint8)
        assert (labels.shape, labels.dtype) == ((4, 24, 32), np.uint8)


def test_an_epoch_shows_each_sample_at_most_once_and_drops_the_rest(dataset: CountedDataset) -> None:
    batches = Batches(dataset, WINDOW, batch_size=4, seed=0)
    shown = [int(image[0, 0, 2]) for images, _ in batches.epoch(0) for image in images]
    assert len(batches) == 2
    assert len(shown) == len(set(shown)) == 8


def test_epochs_and_seeds_differ_in_order_and_augmentation(dataset: CountedDataset) -> None:
    def epochs(seed: int) -> list[bytes]:
        batches = Batches(dataset, AUGMENT, batch_size=11, seed=seed)
        return [next(batches.epoch(epoch, 0))[0].tobytes() for epoch in range(3)]

    orders = []
    for epoch in range(3):
        ((images, _),) = Batches(dataset, WINDOW, batch_size=11, seed=0).epoch(epoch)
        orders.append(tuple(images[:, 0, 0, 2].tolist()))
    assert len(set(orders)) == 3
    assert len(set(epochs(0) + epochs(1))) == 6


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_threads_change_nothing(dataset: CountedDataset, workers: int) -> None:
    inline = list(Batches(dataset, AUGMENT, 2, seed=5, workers=0).epoch(3))
    assert same(list(Batches(dataset, AUGMENT, 2, seed=5, workers=workers).epoch(3)), inline)


@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_a_resumed_epoch_goes_on_where_the_first_stopped(dataset: CountedDataset, start: int) -> None:
    whole = list(Batches(dataset, AUGMENT, 2, seed=5).epoch(7))
    resumed = list(Batches(dataset, AUGMENT, 2, seed=5).epoch(7, start_step=start))
    assert same(resumed, whole[start:])


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_follow_each_other_without_a_gap(dataset: CountedDataset, workers: int) -> None:
    batches = Batches(dataset, AUGMENT, 2, seed=5, workers=workers)
    one_by_one = [batch for epoch in range(2, 5) for batch in batches.epoch(epoch)]
    assert same(list(batches.epochs(2, 5, start_step=3)), one_by_one[3:])


def test_the_next_epoch_is_prepared_before_the_last_batch_of_this_one_is_used(
    dataset: CountedDataset,
) -> None:
    batches = Batches(dataset, AUGMENT, 11, seed=0, workers=1, cache_bytes=0)
    epochs = batches.epochs(0, 2)
    next(epochs)
    patience = threading.Event()
    for _ in range(600):  # a busy machine may take its time; closing would call the second batch off
        if len(dataset.reads) == 22:
            break
        patience.wait(0.1)
    assert len(dataset.reads) == 22
    epochs.close()


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_put_together_are_the_batches(dataset: CountedDataset, parts: int) -> None:
    whole = list(Batches(dataset, AUGMENT, 6, seed=5).epoch(1))
    shares = [list(Batches(dataset, AUGMENT, 6, 5, part=i, parts=parts).epoch(1)) for i in range(parts)]
    together = [
        tuple(np.concatenate(arrays) for arrays in zip(*step, strict=True))
        for step in zip(*shares, strict=True)
    ]
    assert same(together, whole)  # type: ignore[arg-type]


def test_samples_are_read_once_when_they_fit_into_memory(dataset: CountedDataset) -> None:
    batches = Batches(dataset, AUGMENT, 11, seed=0, workers=2)
    for epoch in range(3):
        list(batches.epoch(epoch))
    assert sorted(dataset.reads) == list(range(11))


@pytest.mark.parametrize(("samples_that_fit", "reads"), [(0, 33), (4, 11 + 2 * 7)])
def test_what_does_not_fit_is_read_every_epoch(
    dataset: CountedDataset, samples_that_fit: int, reads: int
) -> None:
    room = samples_that_fit * 48 * 64 * 4 + 100
    batches = Batches(dataset, AUGMENT, 11, seed=0, cache_bytes=room)
    for epoch in range(3):
        list(batches.epoch(epoch))
    assert len(dataset.reads) == reads


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_sample_raises_in_the_consumer(dataset: CountedDataset, workers: int) -> None:
    dataset.broken = 6
    with pytest.raises(DatasetError, match="6: broken"):
        list(Batches(dataset, AUGMENT, 11, seed=0, workers=workers).epoch(0))


def test_prefetch_is_bounded(dataset: CountedDataset) -> None:
    epoch = Batches(dataset, AUGMENT, 1, seed=0, workers=2).epoch(0)
    next(epoch)
    epoch.close()  # waits for the threads, so the count is final
    assert len(dataset.reads) <= 4  # one taken, and workers + 1 ahead


def test_the_caller_owns_the_arrays(dataset: CountedDataset) -> None:
    batches = Batches(dataset, WINDOW, 11, seed=0)
    ((first, labels),) = batches.epoch(0)
    kept = first.copy()
    first[:] = 0
    labels[:] = 0
    ((again, _),) = batches.epoch(0)
    assert np.array_equal(again, kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"batch_size": 12}, "batch_size: expected at most the 11 samples of counted train, got 12"),
        ({"parts": 4}, "batch_size: expected a multiple of the 4 processes, got 2; the next is 4"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"workers": -1}, "workers: expected at least 0"),
        ({"cache_bytes": -1}, "cache_bytes: expected at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(
    dataset: CountedDataset, changes: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Batches(dataset, AUGMENT, **{"batch_size": 2, "seed": 0, **changes})


def make_extra(make_sample: Callable[..., Sample], **changes: object) -> CountedDataset:
    samples = [make_sample(seed) for seed in range(5)]
    for index, sample in enumerate(samples):
        sample.image_bgr[:, :, 2] = 100 + index
    return CountedDataset(samples, name="extra", **changes)


def test_a_second_source_fills_the_end_of_each_batch(
    dataset: CountedDataset, make_sample: Callable[..., Sample]
) -> None:
    extra = make_extra(make_sample)
    batches = Batches(dataset, WINDOW, 4, seed=0, extras=[(extra, 1)])
    assert len(batches) == 11 // 3
    marks = np.stack([images[:, 0, 0, 2] for images, _ in batches.epoch(0)])  # (steps, 4)
    assert sorted(set(marks[:, :3].ravel())) == sorted(marks[:, :3].ravel())  # each own sample once
    assert marks[:, :3].max() < 11
    assert marks[:, 3].min() >= 100
    drawn = {int(images[3, 0, 0, 2]) for epoch in range(6) for images, _ in batches.epoch(epoch)}
    assert drawn == {100, 101, 102, 103, 104}


def test_parts_of_a_mixed_batch_are_the_batch(
    dataset: CountedDataset, make_sample: Callable[..., Sample]
) -> None:
    extra = make_extra(make_sample)
    whole = list(Batches(dataset, AUGMENT, 4, seed=3, extras=[(extra, 2)]).epoch(1))
    parts = [
        list(Batches(dataset, AUGMENT, 4, seed=3, extras=[(extra, 2)], part=part, parts=2).epoch(1))
        for part in range(2)
    ]
    for (images, labels), first, second in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(images, np.concatenate([first[0], second[0]]))
        np.testing.assert_array_equal(labels, np.concatenate([first[1], second[1]]))


def test_a_second_source_of_other_classes_is_refused(
    dataset: CountedDataset, make_sample: Callable[..., Sample]
) -> None:
    extra = make_extra(make_sample, classes=ClassMap(("a", "b"), ((0, 0, 0), (1, 1, 1))))
    with pytest.raises(DatasetError, match="extra: expected the classes of counted"):
        Batches(dataset, WINDOW, 4, seed=0, extras=[(extra, 1)])


@pytest.mark.parametrize("extra_a_batch", [-1, 4])
def test_a_batch_needs_samples_of_its_own(
    dataset: CountedDataset, make_sample: Callable[..., Sample], extra_a_batch: int
) -> None:
    with pytest.raises(ConfigError, match="batch_size: expected at least one"):
        Batches(dataset, WINDOW, 4, seed=0, extras=[(make_extra(make_sample), extra_a_batch)])


def test_a_style_comes_from_either_source(
    dataset: CountedDataset, make_sample: Callable[..., Sample]
) -> None:
    extra = make_extra(make_sample)
    styled = Augment(dataclasses.replace(WINDOW.config, style=1.0))
    for sample in dataset.samples:
        sample.image_bgr[:] = 100
    for sample in extra.samples:
        sample.image_bgr[:] = 200
    batches = Batches(dataset, styled, 4, seed=0, extras=[(extra, 2)])
    pixels = [images[:2, 0, 0, 0] for epoch in range(8) for images, _ in batches.epoch(epoch)]
    own = np.concatenate(pixels)
    assert (own == 100).any()
    assert (own > 110).any()
    again = [images[:2, 0, 0, 0] for epoch in range(8) for images, _ in batches.epoch(epoch)]
    np.testing.assert_array_equal(pixels, again)
