"""Adapts a network to a road without labels.

`python -m training.self_train camvid-s --source drive.mp4 --data camvid --root DIR --out runs/drive` takes
batch norms' statistics from the drive's own frames and, with `--teacher`, trains on what other networks say
of them. A guard refuses what forgets the labelled images or collapses.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import cv2
import numpy as np

from runtime.base.codec import to_plain
from runtime.base.files import make_folder, replacing, write_text
from runtime.base.flags import check_fields, flag, nested, run_command
from runtime.base.lock import only_run_on
from runtime.errors import ConfigError, TrainingError
from runtime.frame import Image
from training.data.catalog import DataOptions
from training.data.dataset import Sample, SegmentationDataset
from training.engine.config import TrainConfig, check_device
from training.figures.sheets import label_sheet, write_sheet
from training.network import SIZES
from training.teaching.ensemble import Ensemble
from training.teaching.frames import Recording
from training.teaching.labelling import LabelRecord, label_recording

if TYPE_CHECKING:
    from training.engine.checkpoint import Checkpoint

ON_THE_SHEET = 12
LONGEST_SIDE = 640


@dataclass(frozen=True, kw_only=True)
class SelfTrainOptions:
    """What the command line asks for."""

    model: str = flag("checkpoint to adapt, by path or bundled name (camvid-s)", name="model")
    source: str | None = flag("the new road: a folder of images, a video or a bag", default=None)
    prove_on: str | None = flag(
        "in place of --source, to see what it gives: leave this recording out of the labelled images, adapt "
        "on its first half without labels, measure on its second",
        default=None,
        metavar="DRIVE",
    )
    topic: str | None = flag("topic of the bag that holds the pictures", default=None, unset="the only one")
    every: int = flag("take one frame in so many", default=1, at_least=1)
    limit: int = flag("take so many frames at most", default=300, at_least=2)
    data: DataOptions = nested(DataOptions, group="labelled images, which it must not forget")
    max_loss: float = flag(
        "points of mIoU that the labelled images may lose",
        default=3.0,
        at_least=0,
        group="labelled images, which it must not forget",
    )
    teacher: tuple[Path, ...] = flag(
        "ONNX file with a contract that says what it sees on the new road; several are asked together",
        default=(),
        repeated=True,
        metavar="FILE",
        group="teachers",
    )
    class_map: str | None = flag(
        "for teachers of other classes: a bundled map, such as cityscapes-to-camvid, or a file",
        default=None,
        metavar="MAP",
        group="teachers",
    )
    epochs: int = flag("passes over the labelled images", default=10, at_least=1, group="teachers")
    share: float = flag(
        "share of a batch that is frames of the new road", default=0.375, above=0, below=1, group="teachers"
    )
    learning_rate: float = flag("peak learning rate", default=5e-4, above=0, group="teachers")
    out: Path = flag("folder for best.pt, frames and sheet", metavar="DIR")
    device: str = flag("torch device, for example cpu or cuda", default="cpu")
    precision: str = flag("arithmetic of the training", default="fp32", choices=("fp32", "bf16", "fp16"))

    def __post_init__(self) -> None:
        """Check the fields."""
        check_fields(self)
        check_device(self.device)
        if (self.source is None) == (self.prove_on is None):
            raise ConfigError("source: expected either --source or --prove-on; give one of them")


def command(options: SelfTrainOptions) -> None:
    """Adapt, judge, write and print."""
    # torch takes seconds, which --help does without
    from training.engine.adaptation import SHARES, best_norms, judge
    from training.engine.checkpoint import checkpoint_file, load_checkpoint, save_checkpoint
    from training.engine.inference import evaluate, masks_of

    start = load_checkpoint(checkpoint_file(options.model))
    train_set, val_set = options.data.open("train", leave_out=options.prove_on), options.data.open("val")
    if train_set.classes.names != start.contract.classes.names:
        raise ConfigError(
            f"data: expected the classes of {start.contract.name}, {list(start.contract.classes.names)}, got "
            f"{list(train_set.classes.names)}; choose labelled images of the same classes"
        )
    cv2.setNumThreads(1)  # the cores belong to torch and to the loader's own threads
    make_folder(options.out)
    with only_run_on(options.out, is_folder=True):
        frames_bgr = _frames(options)
        left_out = None if options.prove_on is None else options.data.open("val", leave_out=options.prove_on)
        candidate = start if not options.teacher else _trained(options, start, train_set, val_set)
        size_hw, fit, device = start.contract.input.size_hw, start.contract.input.fit, options.device
        untouched, network = start.build().to(device), candidate.build().to(device)
        before = judge(untouched, size_hw, val_set, frames_bgr, fit=fit, device=device)
        adapted, share, after = best_norms(
            network, before, size_hw, val_set, frames_bgr, options.max_loss, fit=fit, device=device
        )
        if share == 0 and not options.teacher:
            raise TrainingError(
                "adaptation: expected statistics of the new road that make the network surer of it and keep "
                f"what it knows, found none among {len(SHARES) - 1} shares; use the network as it is, "
                "or give --teacher"
            )
        weights = {name: value.cpu() for name, value in adapted.state_dict().items()}
        contract = dataclasses.replace(candidate.contract, accuracy=None)
        best = options.out / "best.pt"
        changes = {"contract": contract, "weights": weights, "training": None}
        save_checkpoint(best, dataclasses.replace(candidate, **changes))  # type: ignore[arg-type]
        masks = [masks_of(one, size_hw, fit=fit, device=device) for one in (untouched, adapted)]
        _draw(options.out / "before-after.png", frames_bgr, masks, train_set)
        report = {
            "share_of_statistics": share,
            "confidence_before": before.confidence,
            "confidence_after": after.confidence,
            "miou_before": before.miou,
            "miou_after": after.miou,
            "classes_before": before.shares.tolist(),
            "classes_after": after.shares.tolist(),
        }
        write_text(options.out / "adaptation.json", json.dumps(to_plain(report), indent=1) + "\n")
        if left_out is not None:
            second = range(len(left_out) // 2, len(left_out))
            names = {"before": untouched, "trained": network, "after": adapted}
            for name, one in names.items():
                measured = evaluate(one, left_out, size_hw, indices=second, fit=fit, device=device)
                where = f"second half of {options.prove_on}, {len(second)} frames"
                print(f"{where}, {name}: mIoU {measured.accuracy.miou:.4f}")
    print(
        f"{share:.0%} of the statistics are the new road's; labelled {val_set.split}: mIoU "
        f"{before.miou:.4f} → {after.miou:.4f}; confidence on the new road "
        f"{before.confidence:.3f} → {after.confidence:.3f}\n"
        f"look at {options.out / 'before-after.png'}: nothing measures the new road itself"
    )
    print(f"\nnext: python -m export.to_onnx {quote(str(best))}")


def _frames(options: SelfTrainOptions) -> list[Image]:
    """Return the new road's frames; with teachers, labelled into `out/frames`."""
    source = options.source or str(_first_half(options))
    recording = Recording(source, options.topic, options.every, options.limit)
    if not options.teacher:
        read = (one.image_bgr for one in recording.frames(lambda _: False))
        frames = [_small(image_bgr) for image_bgr in read if image_bgr is not None]
    else:
        maps = () if options.class_map is None else (options.class_map,)
        record = LabelRecord.of(source, options.teacher, maps, options.topic, every=options.every, weights=())
        out = options.out / "frames"
        make_folder(out)
        with Ensemble(options.teacher, class_maps=maps) as ensemble:
            print(ensemble.describe(), file=sys.stderr)
            folder, names, _ = label_recording(out, recording, ensemble, record)
        frames = [_small(folder.sample(name).image_bgr) for name in names]
    if len(frames) < 2:
        raise ConfigError(f"source: expected at least 2 frames, got {len(frames)}; give more of the road")
    return frames


def _first_half(options: SelfTrainOptions) -> Path:
    """Write the first half of a recording of the data set as a folder of pictures; return it."""
    assert options.prove_on is not None  # seen to in __post_init__
    drive = options.data.open("val", leave_out=options.prove_on)
    folder = options.out / "first-half"
    for index in range(len(drive) // 2):
        sample = drive[index]
        with replacing(folder / f"{Path(sample.name).stem}.png") as part:
            cv2.imwrite(str(part), sample.image_bgr)
    return folder


def _small(image_bgr: Image) -> Image:
    """Return a frame no larger than the networks look at, since all are kept in memory."""
    shrink = LONGEST_SIDE / max(image_bgr.shape)
    if shrink >= 1:
        return image_bgr
    return cv2.resize(image_bgr, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _trained(
    options: SelfTrainOptions, start: Checkpoint, train_set: SegmentationDataset, val_set: SegmentationDataset
) -> Checkpoint:
    """Return the network after a training on labelled images and what the teachers say of the new road."""
    from training.engine.checkpoint import checkpoint_file, load_checkpoint
    from training.engine.loop import train

    names = [name for name, size in SIZES.items() if (size.kind, size.config) == (start.kind, start.config)]
    if not names:
        raise ConfigError(
            f"model {options.model}: expected one of {', '.join(SIZES)}, got a network of another "
            "shape; leave out --teacher to adapt its statistics alone"
        )
    config = TrainConfig(
        network=names[0],
        size_hw=start.contract.input.size_hw,
        init_from=str(checkpoint_file(options.model)),
        unlabelled=str(options.out / "frames"),
        unlabelled_share=options.share,
        class_map=options.class_map,
        epochs=options.epochs,
        warmup_epochs=1,
        validate_every=options.epochs,
        learning_rate=options.learning_rate,
        aux_weight=0.0,
        loss_stride=2,
        samples_every=0,
        device=options.device,
        precision=options.precision,  # type: ignore[arg-type]
    )
    train(config, train_set, val_set, options.out / "training", resume=True)
    return load_checkpoint(options.out / "training" / "last.pt")


def _draw(
    path: Path,
    frames_bgr: Sequence[Image],
    masks: Sequence[Callable[[Sequence[Image]], list[Image]]],
    dataset: SegmentationDataset,
) -> None:
    """Draw frames spread over the new road, each before and after."""
    places = np.linspace(0, len(frames_bgr) - 1, min(ON_THE_SHEET, len(frames_bgr))).round().astype(int)
    samples = [
        Sample(frames_bgr[place], mask([frames_bgr[place]])[0], f"frame {place}, {when}")
        for place in places.tolist()
        for when, mask in zip(("before", "after"), masks, strict=True)
    ]
    write_sheet(path, label_sheet(samples, dataset.classes, "a road without labels, before and after"))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Adapt a network to a road of which nobody labelled anything."
    return run_command("training.self_train", description, SelfTrainOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
