"""A small network of our own: trained, exported, run and measured on built-in streets.

Everything it shows comes from the parts that real work uses: `training.train`, `export.to_onnx`,
`runtime.loop` and the two accuracy measurements. It needs no download, no camera and no GPU.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.render.document import Table
from benchmarks.timing.frames import rendered_drive
from export.module import ExportReport, export_checkpoint, report_text
from runtime.base.codec import to_plain
from runtime.base.percentiles import percentiles
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.loop import run
from runtime.masks.overlay import Overlay
from runtime.outputs import Outputs, Recording, Stream
from runtime.segmenter import Segmenter
from training.data.synthetic import SyntheticStreets
from training.engine.checkpoint import load_checkpoint
from training.engine.config import TrainConfig
from training.engine.inference import evaluate
from training.engine.loop import train
from training.evaluation.measure import measure_segmenter
from training.figures.sheets import write_sheet
from training.streets import Drive

FILES = ("best.pt", "last.pt", "results.csv", "curves.png", "best.onnx", "overlay.mp4", "contact_sheet.png")
FOLDERS = ("samples", "tensorboard")
STEPS = ("train", "export", "measure", "drive")
# Small batches and a short average, since there are only some 1600 steps.
_SMALL_TRAINING = TrainConfig(
    network="residual-n",
    size_hw=(192, 256),
    epochs=22,
    batch_size=4,
    learning_rate=4e-3,
    loss="weighted",  # boundary weights score more here, but so early with specks on the houses
    loss_stride=2,
    average_decay=0.99,
    validate_every=4,
)


@dataclass(frozen=True)
class DemoConfig:
    """How big the demo is; the defaults take two to four minutes on two cores.

    Attributes:
        train: the training; small images, since that is what makes it quick.
        train_scenes: synthetic scenes to train on.
        val_scenes: other scenes to measure on.
        drive_seed: of the street that the video drives along; not the seed of a scene in a data set.
        drive_size_hw: height and width of the video in pixels.
        drive_frames: frames of the video.
        warmup_frames: of these, at the start, do not count as latencies.
        sheet_rows: moments of the drive on the contact sheet.
    """

    train: TrainConfig = _SMALL_TRAINING
    train_scenes: int = 300
    val_scenes: int = 40
    drive_seed: int = 5_000_001
    drive_size_hw: tuple[int, int] = (360, 480)
    drive_frames: int = 150
    warmup_frames: int = 10
    sheet_rows: int = 3

    def __post_init__(self) -> None:
        """Check what the parts cannot check alone."""
        if not 0 <= self.warmup_frames < self.drive_frames or not 1 <= self.sheet_rows <= self.drive_frames:
            raise ConfigError(
                f"demo: expected a drive of more than {self.warmup_frames} frames to warm up and at least "
                f"{self.sheet_rows} for the sheet, got {self.drive_frames}"
            )


@dataclass(frozen=True)
class DemoResult:
    """What the table says.

    Attributes:
        export: what was exported and proven.
        torch_miou: of the checkpoint in PyTorch, from 0 to 1.
        onnx_miou: of the ONNX file through the runtime, on the same scenes.
        latency_ms: p50, p90, p99 and max from a frame to its mask, over the drive.
        fps: frames a second that the same frames would reach one after the other, without drawing.
    """

    export: ExportReport
    torch_miou: float
    onnx_miou: float
    latency_ms: dict[str, float]
    fps: float


def run_demo(out: Path, config: DemoConfig | None = None) -> DemoResult:
    """Train, export, measure and drive; leave `FILES` and `FOLDERS` in `out`, in place of an earlier demo's.

    Raises:
        ConfigError: a folder that cannot be written, or that holds files of these names that no demo
            made; they are kept.
        EdgesegError: whatever one of the parts raises.
    """
    config = config or DemoConfig()
    _make_room(out, config)
    val_set = SyntheticStreets("val", config.train.size_hw, config.val_scenes)

    epochs, network = config.train.epochs, config.train.network
    _begin("train", f"{network} for {epochs} epochs on {config.train_scenes} synthetic street scenes")
    train_set = SyntheticStreets("train", config.train.size_hw, config.train_scenes)
    checkpoint_path = train(config.train, train_set, val_set, out)

    _begin("export", "write the network as ONNX and prove the file against PyTorch")
    export = export_checkpoint(checkpoint_path, out / "best.onnx")
    print(report_text(export))

    _begin("measure", f"mIoU on {config.val_scenes} other scenes, in PyTorch and in onnxruntime")
    network_in_torch = load_checkpoint(checkpoint_path).build()
    torch_miou = evaluate(
        network_in_torch, val_set, config.train.size_hw, fit=export.contract.input.fit
    ).accuracy.miou
    with Segmenter(export.path) as segment:
        onnx_miou = measure_segmenter(segment, val_set).accuracy.miou

        _begin("drive", f"{config.drive_frames} frames along a street it has not seen, into overlay.mp4")
        samples_ms = _drive(segment, config, out / "overlay.mp4")
        _write_sheet(segment, config, out / "contact_sheet.png")
    return DemoResult(
        export=export,
        torch_miou=torch_miou,
        onnx_miou=onnx_miou,
        latency_ms=percentiles(samples_ms),
        fps=1000 * len(samples_ms) / sum(samples_ms),
    )


def _make_room(out: Path, config: DemoConfig) -> None:
    """Delete an earlier demo's files, which its last.pt tells from a training of the user's."""
    present = [name for name in (*FILES, *FOLDERS) if (out / name).exists()]
    last = out / "last.pt"
    training = load_checkpoint(last).training if last.exists() else None
    if present and (training is None or training["train_config"] != to_plain(config.train)):
        raise ConfigError(
            f"{out}: expected an empty folder or one of an earlier demo, found {present[0]} of something "
            "else; choose another --out"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in present:
            shutil.rmtree(out / name) if name in FOLDERS else (out / name).unlink()
    except OSError as error:
        raise ConfigError(f"{out}: cannot write there ({error.strerror}); choose another --out") from None


def _begin(step: str, what: str) -> None:
    """Say on stderr which step begins."""
    print(f"\n[{STEPS.index(step) + 1}/{len(STEPS)}] {step}: {what}", file=sys.stderr, flush=True)


def _drive(segment: Segmenter, config: DemoConfig, video_path: Path) -> list[float]:
    """Run the camera's loop over the drive; return the milliseconds from frame to mask."""
    with (
        rendered_drive(config.drive_seed, config.drive_size_hw) as source,
        Outputs([Recording(video_path)], Stream(segment.contract, source)) as outputs,
    ):
        # One after the other: drawing the next scene costs far more than a camera's frame, and a mask's
        # milliseconds would hold much of it.
        steps = outputs.feed(run(source, segment, max_frames=config.drive_frames, overlap=False))
        samples_ms = [sum(step.segmentation.latency_ms.values()) for step in steps]
    return samples_ms[config.warmup_frames :]


def _write_sheet(segment: Segmenter, config: DemoConfig, path: Path) -> None:
    """Show moments of the drive in rows: the frame, its true classes, and the network's."""
    overlay = Overlay(segment.contract.classes, alpha=0.6)
    drive = Drive(config.drive_seed, config.drive_size_hw)
    rows: list[Image] = []
    for index in np.linspace(0, config.drive_frames - 1, config.sheet_rows).round().astype(int).tolist():
        scene = drive.frame(index)
        mask = segment(scene.image_bgr).mask
        truth_bgr = overlay.draw(scene.image_bgr, scene.label, "truth")
        panels = [scene.image_bgr, truth_bgr, overlay.draw(scene.image_bgr, mask, "edgeseg")]
        framed = [np.pad(panel, ((0, 4), (0, 4), (0, 0)), constant_values=255) for panel in panels]
        rows.append(np.concatenate(framed, axis=1))  # (H + 4, 3 (W + 4), 3)
    write_sheet(path, np.concatenate(rows))


def result_table(result: DemoResult) -> Table:
    """Return the result as a table."""
    latency = "   ".join(f"{name} {result.latency_ms[name]:.2f} ms" for name in ("p50", "p90", "p99"))
    rows = {
        "mIoU in PyTorch": f"{result.torch_miou:.4f}",
        "mIoU in onnxruntime": f"{result.onnx_miou:.4f}",
        "latency, frame to mask": latency,
        "frames per second": f"{result.fps:.0f}",
        "file size": f"{result.export.size_bytes / 1e6:.2f} MB",
    }
    return Table(("demo", "measured"), list(rows.items()), has_notes=True)
