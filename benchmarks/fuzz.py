"""Opens thousands of damaged files; each must load or be refused: `python -m benchmarks.fuzz`."""

from __future__ import annotations

import dataclasses
import json
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

from benchmarks.corruption import TARGETS, Originals, damaged
from benchmarks.fuzz_worker import Worker
from runtime.base.command import exit_code, make_parser
from runtime.contract import METADATA_KEY, ModelContract
from runtime.errors import ConfigError, ModelLoadError
from runtime.network.onnx_file import read_onnx_file
from runtime.segmenter import bundled_model
from training.engine.checkpoint import Checkpoint, save_checkpoint
from training.network import CameraNetwork, build_network
from training.network.residual import ResidualConfig

DEFAULT_VARIANTS = 2000
DEFAULT_MODEL = "camvid-n"
DEFAULT_TIME_LIMIT_S = 30.0
TINY = ResidualConfig(8, (8, 8, 16, 16), (1, 1, 1, 1), decoder_width=8, detail_width=8)
SHOWN_FAILURES = 20


@dataclass(frozen=True)
class Outcome:
    """What happened with one variant; see `benchmarks.fuzz_worker.Worker.check`."""

    target: str
    index: int
    result: str

    @property
    def is_fine(self) -> bool:
        """Whether it loaded or was refused by a known error."""
        return self.result == "loaded" or self.result.startswith("refused: ")


def fuzz(
    originals: Originals,
    variants: int = DEFAULT_VARIANTS,
    *,
    seed: int = 0,
    targets: Sequence[str] = TARGETS,
    jobs: int = 1,
    time_limit_s: float = DEFAULT_TIME_LIMIT_S,
) -> list[Outcome]:
    """Open `variants` damaged files of each target, in processes of their own.

    Args:
        originals: whole files to damage.
        variants: of each target.
        seed: of the damage.
        targets: some of `benchmarks.corruption.TARGETS`.
        jobs: processes at once.
        time_limit_s: for one file, in seconds; after it the file counts as a hang.

    Raises:
        ConfigError: numbers below 1.
    """
    if min(variants, jobs) < 1 or not time_limit_s > 0:
        raise ConfigError(
            f"fuzz: expected positive numbers of variants, jobs and seconds, got {variants}, {jobs} and "
            f"{time_limit_s:g}"
        )
    waiting: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    for target in targets:
        for index in range(variants):
            waiting.put((target, index))
    outcomes: list[Outcome] = []
    stop = threading.Event()

    def work() -> None:
        worker = Worker(originals, seed, time_limit_s)
        try:
            while not stop.is_set():
                target, index = waiting.get_nowait()
                outcomes.append(Outcome(target, index, worker.check(target, index)))
                if len(outcomes) % 500 == 0:
                    print(f"{len(outcomes)} of {variants * len(targets)} files", file=sys.stderr)
        except queue.Empty:
            return
        finally:
            worker.close()

    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(work) for _ in range(jobs)]
        try:
            for job in running:
                job.result()
        finally:
            stop.set()
    return sorted(outcomes, key=lambda outcome: (targets.index(outcome.target), outcome.index))


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = make_parser(
        "benchmarks.fuzz",
        "Open damaged checkpoints, ONNX files and contracts in a process of their own: each must load or be "
        "refused by a known error, and never crash, hang or run code.",
    )
    parser.add_argument("--variants", type=int, default=DEFAULT_VARIANTS, help="damaged files of each target")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS), help="what to damage")
    parser.add_argument(
        "--model", type=Path, help=f"ONNX file to damage; by default {DEFAULT_MODEL} of the box"
    )
    parser.add_argument("--checkpoint", type=Path, help="checkpoint to damage; by default a tiny one is made")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--time-limit", type=float, default=DEFAULT_TIME_LIMIT_S, help="seconds for one file")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the files that failed here")
    parser.add_argument("--json", action="store_true", help="print every outcome as JSON")
    arguments = parser.parse_args(argv)

    def command() -> None:
        originals = read_originals(arguments.model or bundled_model(DEFAULT_MODEL), arguments.checkpoint)
        outcomes = fuzz(
            originals,
            arguments.variants,
            seed=arguments.seed,
            targets=arguments.targets,
            jobs=arguments.jobs,
            time_limit_s=arguments.time_limit,
        )
        failures = [outcome for outcome in outcomes if not outcome.is_fine]
        if arguments.keep is not None:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            for failure in failures:
                content = damaged(originals, failure.target, failure.index, arguments.seed)
                (arguments.keep / f"{failure.target}-{failure.index}").write_bytes(content)
        if arguments.json:
            print(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes]))
        else:
            print(report_text(outcomes, arguments.seed))
        if failures:
            raise ModelLoadError(
                f"fuzz: expected every file to load or to be refused, {len(failures)} did neither; look at "
                "them with --keep FOLDER"
            )

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
