"""How good a file is: what accuracy it has left, how fast it is here, and what onnxruntime makes of it."""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Protocol

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from runtime.base.progress import tracked
from runtime.contract import Accuracy, ImageInput
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.network.resize import fit_image
from runtime.network.session import session_options
from runtime.segmenter import Segmenter
from runtime.sources import open_recorded
from training.data import SegmentationDataset
from training.evaluation.measure import measure_segmenter

MAX_SOURCE_FRAMES = 256
_WARMUP = 3
_FEWEST_PAIRS = 3
_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten")  # no arithmetic
_IMAGE_MOVES = (*_MOVES, "BitwiseXor", "Gather", "Split", "Slice", "Concat")  # on bytes; on floats it is work
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")


class Judge(Protocol):
    """Says how good a file is, in points of 100."""

    measure: str  # what the points are, in words

    def points(self, path: Path) -> tuple[float, Accuracy | None]:
        """Return a file's points, and its accuracy where there are labels."""
        ...


class LabelJudge:
    """Mean IoU on a labelled data set."""

    def __init__(self, dataset: SegmentationDataset, limit: int | None, threads: int | None) -> None:
        """Choose the first `limit` images, at least 1; all with None."""
        self._dataset, self._threads = dataset, threads
        self._frames = len(dataset) if limit is None else min(limit, len(dataset))
        self.measure = f"mIoU on {self._frames} images of {dataset.name} {dataset.split}"

    def points(self, path: Path) -> tuple[float, Accuracy | None]:
        """Return 100 * mIoU, and the whole accuracy.

        Raises:
            DatasetError: classes other than the model's, or a sample that cannot be read.
        """
        with Segmenter(path, threads=self._threads) as segment:
            accuracy = measure_segmenter(segment, self._dataset, limit=self._frames).accuracy
        return 100 * accuracy.miou, accuracy


class AgreementJudge:
    """Share of pixels with the class that the float32 file gives them; for pictures without labels."""

    def __init__(self, reference: Path, images_bgr: Sequence[Image], threads: int | None) -> None:
        """Keep the pictures; the masks to agree with are made when they are first needed."""
        self._reference, self._images_bgr, self._threads = reference, images_bgr, threads
        self.measure = f"mask agreement with the float32 file on {len(images_bgr)} frames"

    @cached_property
    def _masks(self) -> list[Image]:
        """The float32 file's masks."""
        with Segmenter(self._reference, threads=self._threads) as segment:
            return [segment(image).mask for image in tracked(self._images_bgr, "float32 masks")]

    def points(self, path: Path) -> tuple[float, Accuracy | None]:
        """Return the agreement in %."""
        same = pixels = 0
        with Segmenter(path, threads=self._threads) as segment:
            pairs = zip(self._images_bgr, self._masks, strict=True)
            for image, mask in tracked(pairs, "agreement", len(self._masks)):
                same += int((segment(image).mask == mask).sum())
                pixels += mask.size
        return 100 * same / pixels, None


def dataset_images(dataset: SegmentationDataset, count: int, given: ImageInput) -> list[Image]:
    """Return up to `count` evenly spaced images of a data set, resized as the runtime does."""
    chosen = spaced(len(dataset), count)
    images = (dataset[index].image_bgr for index in tracked(chosen, "reading"))
    return [fit_image(image_bgr, given.size_hw, given.fit) for image_bgr in images]


def source_images(source: str) -> tuple[list[Image], list[Image]]:
    """Return frames to calibrate on and frames to judge by, in turn from the first 256 of a source.

    Raises:
        SourceError: a source that cannot be read, or that is live.
        ConfigError: a source of one frame.
    """
    with open_recorded(source, "frames") as frames:
        images = [frame.image_bgr for frame in itertools.islice(frames, MAX_SOURCE_FRAMES)]
    if len(images) < 2:
        raise ConfigError(
            f"frames {source}: expected at least 2 frames, one to calibrate on and one to judge by, got "
            f"{len(images)}; give more"
        )
    return images[::2], images[1::2]


def spaced(total: int, count: int) -> list[int]:
    """Return up to `count` indices, evenly spread.

    >>> spaced(10, 3), spaced(2, 5)
    ([0, 3, 6], [0, 1])
    """
    count = min(total, count)
    return [index * total // count for index in range(count)]


@dataclass(frozen=True)
class PairedSpeed:
    """Medians of interleaved runs.

    Attributes:
        reference_ms: milliseconds of the first file's network.
        candidate_ms: milliseconds of the second file's network.
        ratio: median of candidate / reference over the pairs; below 1 the candidate is faster.
        pairs: how many runs of each were timed.
    """

    reference_ms: float
    candidate_ms: float
    ratio: float
    pairs: int


def paired_speed(
    reference: Path, candidate: Path, *, pairs: int, threads: int | None = None, most_s: float = math.inf
) -> PairedSpeed:
    """Run two files in turn, on the same noise picture and with the runtime's own session options.

    The order changes from pair to pair, since the second run of a pair finds other caches. Neither session's
    threads spin between its runs (see `runtime.network.session.session_options`), which would slow the
    other one.

    Args:
        reference: ONNX file with a contract.
        candidate: ONNX file with a contract, of the same input size.
        pairs: how many runs of each to time.
        threads: worker threads; None takes the physical cores, at most 4.
        most_s: time after which so many pairs as there are must do, at least 3.

    Raises:
        EdgesegError: as `Segmenter`.
    """
    started = time.monotonic()
    with Segmenter(reference, threads=threads) as first, Segmenter(candidate, threads=threads) as second:
        height, width = first.contract.input.size_hw
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        for _ in range(_WARMUP):
            first(picture)
            second(picture)
            if time.monotonic() - started > most_s / 4:
                break
        times_ms: dict[Segmenter, list[float]] = {first: [], second: []}
        for pair in range(pairs):
            if pair >= _FEWEST_PAIRS and time.monotonic() - started > most_s:
                break
            for segment in (first, second) if pair % 2 else (second, first):
                times_ms[segment].append(segment(picture).latency_ms["network"])
        ratios = [after / before for before, after in zip(times_ms[first], times_ms[second], strict=True)]
        return PairedSpeed(median(times_ms[first]), median(times_ms[second]), median(ratios), len(ratios))


@dataclass(frozen=True)
class OptimizedGraph:
    """The operators after onnxruntime's fusions.

    Attributes:
        integer: how many of each integer operator.
        floating: how many of each operator computes in float32.
        quantize: QuantizeLinear operators that are left.
        dequantize: DequantizeLinear operators that are left; one is the caller's logits.
        image_stays_integer: whether the image reaches an integer convolution without a float in between.
    """

    integer: dict[str, int]
    floating: dict[str, int]
    quantize: int
    dequantize: int
    image_stays_integer: bool


def optimized_graph(path: Path) -> OptimizedGraph:
    """Open a file with the runtime's session options and look at the graph that onnxruntime made of it."""
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options = session_options(1)
        options.optimized_model_filepath = str(optimized)
        ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        graph = ir.load(optimized).graph
    image_side = _image_side(graph)
    operators = Counter(
        node.op_type for node in graph if node not in (image_side or ()) and node.op_type not in _MOVES
    )
    integer = {name: count for name, count in operators.items() if name.startswith("QLinear")}
    floating = {
        name: count for name, count in operators.items() if name not in integer and name not in _CONVERSIONS
    }
    return OptimizedGraph(
        integer=integer,
        floating=floating,
        quantize=operators["QuantizeLinear"],
        dequantize=operators["DequantizeLinear"],
        image_stays_integer=image_side is not None,
    )


def _image_side(graph: ir.Graph) -> set[ir.Node] | None:
    """Return what moves the image's bytes to an integer convolution; None if anything else reads them."""
    moves: set[ir.Node] = set()
    reached = False
    waiting = list(graph.inputs[0].consumers())
    while waiting:
        node = waiting.pop()
        if node.op_type == "QLinearConv":
            reached = True
            continue
        to_int8 = node.op_type == "Cast" and node.attributes.get_int("to") == ir.DataType.INT8
        if node.op_type not in _IMAGE_MOVES and not to_int8:
            return None
        moves.add(node)
        waiting += [reader for value in node.outputs for reader in value.consumers()]
    return moves if reached else None
