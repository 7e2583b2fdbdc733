"""Makes any segmentation ONNX file one that the runtime opens: `python -m export.adapt model.onnx …`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from export.foreign.adaptation import AdaptOptions, adapt, read_classes, report_text
from export.foreign.rewrite import OutputKind
from runtime.base.flags import flag, nested, run_command
from runtime.errors import ConfigError


@dataclass(frozen=True)
class CommandOptions:
    """What the command line asks for."""

    model: Path = flag("ONNX file", name="model")
    classes: Path = flag('JSON: ["road", "car"] or {"names": [...], "palette": [...]}')
    output: Path | None = flag(
        "file to write",
        default=None,
        unset="MODEL-edgeseg.onnx beside the model",
        name=("-o", "--output"),
    )
    file: AdaptOptions = nested(AdaptOptions)
    softmax_output: bool = flag("the model gives probabilities", default=False)
    argmax_output: bool = flag("the model gives class indices", default=False)
    as_json: bool = flag("print the report as JSON", default=False, name="--json")

    def __post_init__(self) -> None:
        """Check that the output is of one kind."""
        if self.softmax_output and self.argmax_output:
            raise ConfigError(
                "output: expected --softmax-output or --argmax-output, got both; keep the one that is "
                "true of it"
            )

    @property
    def options(self) -> AdaptOptions:
        """How to adapt, with the kind of output."""
        kind: OutputKind = "softmax" if self.softmax_output else "argmax" if self.argmax_output else "logits"
        return replace(self.file, kind=kind)


def command(options: CommandOptions) -> None:
    """Adapt a file and print what was proven."""
    report = adapt(options.model, read_classes(options.classes), options.output, options.options)
    if options.as_json:
        print(json.dumps({**asdict(report), "path": str(report.path)}, indent=1))
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
