"""Makes any segmentation ONNX file one that the runtime opens: `python -m export.adapt model.onnx …`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from export.foreign.adaptation import AdaptOptions, adapt, read_classes, report_text
from export.foreign.interface import OutputKind
from export.foreign.isolation import Limits, within
from runtime.base.codec import to_plain
from runtime.base.flags import flag, nested, run_command
from runtime.errors import ConfigError


@dataclass(frozen=True)
class CommandOptions:
    """What the command line asks for."""

    model: Path = flag("ONNX file, or the folder that holds it and what describes it", name="model")
    classes: Path | None = flag(
        'JSON: ["road", "car"] or {"names": [...], "palette": [...]}',
        default=None,
        unset="as the file or what lies beside it says",
    )
    output: Path | None = flag(
        "file to write",
        default=None,
        unset="MODEL-edgeseg.onnx beside the model",
        name=("-o", "--output"),
    )
    file: AdaptOptions = nested(AdaptOptions)
    softmax_output: bool = flag("the model gives probabilities", default=False)
    sigmoid_output: bool = flag(
        "the model gives one channel, the probability of the second of two classes", default=False
    )
    argmax_output: bool = flag("the model gives class indices", default=False)
    limits: Limits = nested(Limits)
    as_json: bool = flag("print the report as JSON", default=False, name="--json")

    def __post_init__(self) -> None:
        """Check that the output is of one kind."""
        given = [f"--{kind}-output" for kind in self._kinds]
        if len(given) > 1:
            said = "both" if len(given) == 2 else "all"
            raise ConfigError(
                f"output: expected {' or '.join(given)}, got {said}; keep the one that is true of it"
            )

    @property
    def _kinds(self) -> list[OutputKind]:
        kinds: dict[OutputKind, bool] = {
            "softmax": self.softmax_output,
            "sigmoid": self.sigmoid_output,
            "argmax": self.argmax_output,
        }
        return [kind for kind, said in kinds.items() if said]

    @property
    def options(self) -> AdaptOptions:
        """How to adapt, with the kind of output."""
        return replace(self.file, kind=self._kinds[0] if self._kinds else None)


def command(options: CommandOptions) -> None:
    """Adapt a file and print what was proven."""
    classes = None if options.classes is None else read_classes(options.classes)
    report = within(
        options.limits, options.model, adapt, options.model, classes, options.output, options.options
    )
    if options.as_json:
        print(json.dumps({**to_plain(report), "path": str(report.path)}, indent=1))
    else:
        print(report_text(report))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = (
        "Put camera pixels, class scores and a contract around any segmentation ONNX file, and prove it."
    )
    return run_command("export.adapt", description, CommandOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
