"""Measures a checkpoint in PyTorch: `python -m training.evaluate best.pt --data camvid --root DIR`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from runtime.base.files import make_folder
from runtime.base.flags import flag, nested, run_command
from runtime.errors import ConfigError
from training.data.catalog import SplitOptions
from training.engine.config import check_device
from training.evaluation.biases import fit_biases
from training.evaluation.measure import (
    accuracy_json,
    accuracy_table,
    check_same_classes,
    measure,
    warn_if_seen,
)
from training.evaluation.temperature import fit_temperature
from training.figures.charts import draw_confusion
from training.figures.sheets import WorstImages, prediction_sheet, write_sheet


@dataclass(frozen=True)
class EvaluateOptions:
    """What the command line asks for."""

    checkpoint: str = flag("best.pt or last.pt of training.train, or a bundled one's name", name="checkpoint")
    data: SplitOptions = nested(SplitOptions)
    scales: tuple[float, ...] = flag(
        "average over these sizes of the input, each rounded to a size that the network takes",
        default=(1.0,),
        metavar="FACTOR",
    )
    flip: bool = flag("average over each image and its mirror image", default=False)
    report: Path | None = flag("write confusion.png and worst.png there", default=None, metavar="DIR")
    fit_biases: bool = flag(
        "move the classes' biases to the highest mIoU on these images, best those that it was trained on, "
        "and write them into the checkpoint",
        default=False,
    )
    fit_temperature: bool = flag(
        "fit the temperature of the confidences on these images, which it must not have learned from, and "
        "write it into the checkpoint; also the accuracy, where it states none",
        default=False,
    )
    worst: int = flag("images in worst.png", default=6, at_least=1)
    device: str = flag("torch device, for example cpu or cuda", default="cpu")
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: EvaluateOptions) -> None:
    """Measure, draw what is asked for, and print."""
    # torch takes seconds, which --help does without
    from training.engine.checkpoint import checkpoint_file, load_checkpoint, save_checkpoint
    from training.engine.inference import Views, predictor, sampled_pixels

    check_device(options.device)
    file = checkpoint_file(options.checkpoint)
    if (options.fit_biases or options.fit_temperature) and file != Path(options.checkpoint):
        raise ConfigError(
            f"{options.checkpoint}: expected a checkpoint of your own, which what is fitted is written into, "
            f"got a bundled one; copy {file} first"
        )
    checkpoint = load_checkpoint(file)
    contract = checkpoint.contract
    dataset = options.data.open_split()
    check_same_classes(contract.classes, dataset)
    if options.data.leave_out is not None:
        warn_if_seen(contract, dataset)
    size_hw = contract.input.size_hw
    fit, multiple = contract.input.fit, checkpoint.config.size_multiple
    views = Views.of_scales(size_hw, options.scales, multiple, flip=options.flip, fit=fit)
    if options.report is not None:
        make_folder(options.report)
    network, worst = checkpoint.build().to(options.device), WorstImages(options.worst)
    if options.fit_biases:
        moved = fit_biases(sampled_pixels(network, size_hw, dataset, fit=fit, device=options.device))
        checkpoint = checkpoint.with_biases_moved(moved)
        network, contract = checkpoint.build().to(options.device), checkpoint.contract
    if options.fit_temperature:
        sample = sampled_pixels(network, size_hw, dataset, fit=fit, device=options.device)
        contract = contract.with_output(temperature=fit_temperature(sample))
    predict = predictor(network, views, device=options.device, temperature=contract.output.temperature)
    measured = measure(predict, dataset, on_image=worst.add)
    accuracy, as_exported = measured.accuracy, views == Views((size_hw,), fit=fit)
    if options.report is not None:
        title = f"{contract.name} on {accuracy.dataset} {accuracy.split}, mIoU {accuracy.miou:.3f}"
        title += "" if as_exported else f", mean of {views}"
        draw_confusion(options.report / "confusion.png", measured.confusion, dataset.classes.names, title)
        title += f": the {len(worst.images)} worst of {accuracy.frames} images"
        write_sheet(options.report / "worst.png", prediction_sheet(worst.images, dataset.classes, title))
    if options.fit_temperature and as_exported and contract.accuracy is None:
        contract = dataclasses.replace(contract, accuracy=accuracy)  # after `average`, or other biases
    if options.fit_biases or options.fit_temperature:
        save_checkpoint(file, dataclasses.replace(checkpoint, contract=contract))
    if options.fit_biases:
        by_class = zip(contract.classes.names, moved, strict=True)
        text = ", ".join(f"{name} {bias:+.2f}" for name, bias in by_class)
        print(f"biases moved by {text}, written into {file}", file=sys.stderr)
    if options.fit_temperature:
        print(f"temperature {contract.output.temperature:g}, written into {file}", file=sys.stderr)
    if options.as_json:
        print(json.dumps(accuracy_json(measured) | {"views_hw": views.sizes_hw, "flip": views.flip}))
        return
    print(accuracy_table(accuracy, measured))
    if not as_exported:
        print(f"mean of {views}; the exported file sees 1 view, {size_hw[0]}x{size_hw[1]}")
    if options.report is not None:
        print(f"see {options.report / 'confusion.png'} and {options.report / 'worst.png'}")
    print(f"\nnext: python -m export.to_onnx {quote(options.checkpoint)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Measure a checkpoint's accuracy and the error of its confidences (ECE) in PyTorch."
    return run_command("training.evaluate", description, EvaluateOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
