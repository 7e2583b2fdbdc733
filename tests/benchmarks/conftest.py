"""Machines that are not at hand, comparisons that nobody measured, and a data set to train on at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.layers.limits import ModelLimits
from benchmarks.layers.op_profile import OpProfile
from benchmarks.machine import description
from benchmarks.machine.description import this_machine
from benchmarks.machine.processor import SystemFiles
from benchmarks.machine.yardstick import MachineLimits, measure_noise, noise_of
from benchmarks.results.results import MeasuredAccuracy, ModelFile, ModelResult, Results, Settings
from runtime.contract import Accuracy

CLASSES = ("sky", "road", "pole")
SHARES = {"resize": 0.03, "network": 0.75, "mask": 0.15, "draw": 0.07}


@pytest.fixture(scope="session", autouse=True)
def quiet_machine() -> Iterator[None]:
    """Spare every command the two seconds of work that tell how noisy a machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(description, "measure_noise", lambda threads: measure_noise(0, run_ms=lambda: 1.0))
        yield


@pytest.fixture(scope="session")
def camvid_root(tmp_path_factory):
    """Three drives of two blocky images each, in CamVid's layout, on which an epoch takes no time."""
    root = tmp_path_factory.mktemp("camvid")
    rng = np.random.default_rng(0)
    for split, drive in (("train", "0001TP"), ("train", "0006R0"), ("val", "0016E5")):
        for index in range(2):
            label = np.kron(rng.integers(0, 11, (4, 8), np.uint8), np.ones((8, 8), np.uint8))  # (32, 64)
            for folder, pixels in ((split, cv2.merge([label * 20] * 3)), (f"{split}annot", label)):
                (root / folder).mkdir(exist_ok=True)
                assert cv2.imwrite(str(root / folder / f"{drive}_{index}.png"), pixels)
    return root


@pytest.fixture
def system(tmp_path: Path) -> Callable[..., SystemFiles]:
    """Make trees of files as a Linux kernel makes them up: `system({"proc/stat": "cpu  1 2 …"})`."""
    made = SystemFiles(proc=tmp_path / "proc", sys=tmp_path / "sys")

    def make(texts: Mapping[str, str]) -> SystemFiles:
        for name, text in texts.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return made

    return make


def synthetic_results(
    seed: int = 0,
    *,
    slower: float = 1.0,
    accuracy_drop: float = 0.0,
    rounds: int = 30,
    frames: int = 15,
    labels: tuple[str, ...] = ("small", "large"),
    foreign: tuple[str, ...] = (),
    with_accuracy: bool = True,
    today: float = 0.15,
) -> Results:
    """Return results of a shared, drifting machine.

    Args:
        seed: of the noise.
        slower: factor on the times of the first model.
        accuracy_drop: share of the first model's right pixels that become wrong.
        rounds: of the measurement.
        frames: that count in each.
        labels: of our models.
        foreign: labels of others' models.
        with_accuracy: whether there were labels.
        today: by how much the whole machine may be faster or slower in this run, as a logarithm.
    """
    rng = np.random.default_rng(seed)
    speed = np.empty(rounds)  # of the machine: another one today, drifting, and with a memory
    speed[0] = rng.uniform(-today, today)
    for number in range(1, rounds):
        speed[number] = 0.8 * speed[number - 1] + 0.2 * speed[0] + rng.normal(0, 0.03)
    speed += np.linspace(0, rng.uniform(-0.05, 0.05), rounds)

    def times(milliseconds: float, count: int) -> np.ndarray:
        elasticity = rng.uniform(0.9, 1.1)  # not all work slows alike
        turn = rng.normal(0, 0.02, (rounds, 1))
        noise = rng.normal(0, 0.04, (rounds, count))
        spikes = np.where(rng.random((rounds, count)) < 0.02, rng.uniform(0.3, 1.5, (rounds, count)), 0)
        return milliseconds * np.exp(elasticity * speed[:, None] + turn + noise + spikes)

    models = []
    for index, label in enumerate((*labels, *foreign)):
        total = times(6.0 * (index + 1), frames) * (slower if index == 0 else 1)
        stages = {"network": total}
        if label in labels:
            stages = {name: share * total for name, share in SHARES.items()} | {"total": total}
        accuracy = measured(index, accuracy_drop if index == 0 else 0) if label in labels else None
        models.append(
            ModelResult(
                file=ModelFile(
                    label=label,
                    file=f"{label}.onnx",
                    sha256=f"{index:064x}",
                    bytes=1_000_000 * (index + 1),
                    kind="edgeseg" if label in labels else "foreign",
                    input="480x352",
                    arithmetic="float32" if label in labels else "unknown",
                ),
                stages_ms={name: tuple(map(tuple, one.tolist())) for name, one in stages.items()},
                accuracy=accuracy if with_accuracy else None,
                limits=layers(label, 6.0 * (index + 1)),
            )
        )
    yardstick = times(24.0, 4)
    return Results(
        machine=this_machine(),
        noise=noise_of(yardstick.ravel().tolist(), None),
        started="2026-01-02T03:04:05+00:00",
        settings=Settings(
            frames="clip.mp4",
            frames_sha256="ab" * 32,
            frame_size_hw=(360, 480),
            rounds=rounds,
            frames_a_round=frames,
            settle=3,
            seed=0,
            threads=2,
            provider="cpu",
            data="camvid val (40 images)" if with_accuracy else "",
        ),
        yardstick_ms=tuple(map(tuple, yardstick.tolist())),
        orders=tuple((*labels, *foreign) for _ in range(rounds)),
        models=tuple(models),
        machine_limits=MachineLimits(100.0, 90.0, 200.0, 10.0, 2, 40.0),
    )


def layers(label: str, network_ms: float) -> ModelLimits:
    """Return a network of ten layers, nine of them of different kinds."""
    shares = {"Conv": 0.5, **{f"Operator{number}": 0.06 for number in range(8)}, "Resize": 0.02}
    ops = tuple(
        OpProfile(
            name=f"node{number}",
            operator=operator,
            output_shape=(1, 16, 44, 60),
            element_type="float",
            median_ms=share * network_ms,
            macs=1_000_000,
            bytes_moved=1000,
            gmac_s=1.0,
            limit_ms=0.4 * share * network_ms,
            ratio=2.5,
            reason="few input channels",
        )
        for number, (operator, share) in enumerate(shares.items())
    )
    return ModelLimits(
        file=f"{label}.onnx",
        gmacs={"conv": 0.35},
        network_ms=network_ms,
        limit_ms=0.4 * network_ms,
        ratio=2.5,
        ratio_samples=(2.5,),
        layers_ms=network_ms,
        layers_limit_ms=0.4 * network_ms,
        profiled_ms=network_ms,
        samples_ms=(network_ms,),
        ops=ops,
    )


def measured(index: int, drop: float, images: int = 40) -> MeasuredAccuracy:
    """Return an accuracy of 40 images in three classes, the last of which never occurs."""
    rng = np.random.default_rng(7)  # the same images for every model
    unions = rng.integers(800, 1200, (images, 3))
    shares = np.clip(0.6 + 0.05 * index + rng.normal(0, 0.05, (images, 3)), 0, 1) * (1 - drop)
    unions[:, 2] = 0
    intersections = (unions * shares).astype(int)
    ious = intersections[:, :2].sum(axis=0) / unions[:, :2].sum(axis=0)
    summary = Accuracy(
        dataset="camvid",
        split="val",
        frames=images,
        miou=float(ious.mean()),
        pixel_accuracy=float(ious.mean()),
        per_class_iou={"sky": float(ious[0]), "road": float(ious[1]), "pole": None},
    )
    return MeasuredAccuracy(
        summary, tuple(map(tuple, intersections.tolist())), tuple(map(tuple, unions.tolist()))
    )


@pytest.fixture(scope="session")
def make_results() -> Callable[..., Results]:
    return synthetic_results
