"""Opens thousands of damaged files; each must load or be refused."""

from __future__ import annotations

import dataclasses
import queue
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from runtime.base.flags import check_fields, flag
from runtime.contract import METADATA_KEY, ModelContract
from runtime.errors import ConfigError, ModelLoadError
from runtime.network.onnx_file import read_onnx_file
from tests.fuzz.corruption import TARGETS, Originals
from tests.fuzz.worker import Worker
from training.engine.checkpoint import Checkpoint, save_checkpoint
from training.network.build import CameraNetwork, build_network
from training.network.sizes import ResidualConfig

TINY = ResidualConfig(8, (8, 8, 16, 16), (1, 1, 1, 1), decoder_width=8, detail_width=8)
SHOWN_FAILURES = 20


@dataclass(frozen=True)
class FuzzConfig:
    """What is damaged, and how often."""

    variants: int = flag("damaged files of each target", default=2000, at_least=1)
    targets: tuple[str, ...] = flag("what to damage", default=TARGETS, choices=TARGETS)
    seed: int = flag("of the damage", default=0, at_least=0)
    jobs: int = flag("processes at once", default=1, at_least=1)
    time_limit: float = flag(
        "for one file; after it the file counts as a hang", default=30.0, above=0, unit="s"
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


@dataclass(frozen=True)
class Outcome:
    """What happened with one variant; see `tests.fuzz.worker.Worker.check`."""

    target: str
    index: int
    result: str

    @property
    def is_fine(self) -> bool:
        """Whether it loaded or was refused by a known error."""
        return self.result == "loaded" or self.result.startswith("refused: ")


def fuzz(originals: Originals, config: FuzzConfig) -> list[Outcome]:
    """Open damaged variants of the files, in processes of their own."""
    waiting: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    for target in config.targets:
        for index in range(config.variants):
            waiting.put((target, index))
    total = config.variants * len(config.targets)
    outcomes: list[Outcome] = []
    stop = threading.Event()

    def work() -> None:
        worker = Worker(originals, config.seed, config.time_limit, config.targets)
        try:
            while not stop.is_set():
                target, index = waiting.get_nowait()
                outcomes.append(Outcome(target, index, worker.check(target, index)))
                if len(outcomes) % 500 == 0:
                    print(f"{len(outcomes)} of {total} files", file=sys.stderr)
        except queue.Empty:
            return
        finally:
            worker.close()

    with ThreadPoolExecutor(config.jobs) as pool:
        running = [pool.submit(work) for _ in range(config.jobs)]
        try:
            for job in running:
                job.result()
        finally:
            stop.set()
    return sorted(outcomes, key=lambda outcome: (config.targets.index(outcome.target), outcome.index))


def read_originals(model: Path, checkpoint: Path | None) -> Originals:
    """Read the files to damage; without a checkpoint, a tiny one is made for the model's contract.

    Raises:
        ModelLoadError: a model that is missing, damaged or without a contract.
        ConfigError: a checkpoint that cannot be read.
    """
    file = read_onnx_file(model)
    if METADATA_KEY not in file.metadata:
        raise ModelLoadError(f"model {model}: expected a contract in its metadata, found none")
    contract = file.metadata[METADATA_KEY]
    try:
        content = _tiny_checkpoint(contract) if checkpoint is None else checkpoint.read_bytes()
    except OSError as error:
        raise ConfigError(f"{checkpoint}: cannot read it ({error.strerror}); check --checkpoint") from None
    return Originals(content, file.content, contract.encode())


def _tiny_checkpoint(contract_json: str) -> bytes:
    """Return a checkpoint of a few thousand random weights, whose file is mostly names and sizes."""
    contract = ModelContract.from_json(contract_json)
    contract = dataclasses.replace(contract, input=dataclasses.replace(contract.input, size_hw=(64, 96)))
    contract = dataclasses.replace(contract, output=dataclasses.replace(contract.output, stride=TINY.stride))
    torch.manual_seed(0)
    body = build_network("residual", TINY, len(contract.classes))
    weights = CameraNetwork(body, contract.normalization).state_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.pt"
        save_checkpoint(path, Checkpoint("residual", TINY, contract, weights))
        return path.read_bytes()


def report_text(outcomes: Sequence[Outcome], seed: int) -> str:
    """Return a table of what happened, and each failure."""
    lines = []
    for target in dict.fromkeys(outcome.target for outcome in outcomes):
        results = [outcome.result for outcome in outcomes if outcome.target == target]
        counts = Counter(
            result.split(": ")[1] if "refused" in result else result.split(":")[0] for result in results
        )
        listed = ", ".join(f"{count} {result}" for result, count in counts.most_common())
        lines.append(f"{target:<10} {len(results)} variants: {listed}")
    failures = [outcome for outcome in outcomes if not outcome.is_fine]
    lines += [
        f"failed     {failure.target} {failure.index}: {failure.result}"
        for failure in failures[:SHOWN_FAILURES]
    ]
    lines.append(f"failures   {len(failures)} of {len(outcomes)} (seed {seed})")
    return "\n".join(lines)
