"""Prints what a model file is and what it may be used for: `python -m runtime.info seg.onnx`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from runtime.base.codec import to_plain
from runtime.base.flags import flag, run_command
from runtime.base.installation import doubled_packages, installed_packages
from runtime.contract import METADATA_KEY, ModelContract
from runtime.network.description import contract_lines, file_lines
from runtime.network.onnx_file import read_onnx_file
from runtime.segmenter import model_path


@dataclass(frozen=True)
class InfoOptions:
    """What the command line asks for."""

    model: Path | None = flag(
        "ONNX file, or bundled name (default: the bundled s)", name="model", default=None
    )
    json: bool = flag("print one JSON object and nothing else", default=False)


def command(options: InfoOptions) -> None:
    """Print the file's facts, and the packages that would run it."""
    path = model_path(options.model)
    file = read_onnx_file(path)
    text = file.metadata.get(METADATA_KEY)
    contract = None if text is None else ModelContract.from_json(text)
    for warning in doubled_packages():
        print(f"warning: {warning}", file=sys.stderr)
    if options.json:
        facts = {
            "path": str(path),
            "size_bytes": len(file.content),
            "is_sealed": file.is_sealed,
            "inputs": file.inputs,
            "outputs": file.outputs,
            "contract": contract,
            "packages": installed_packages(),
        }
        print(json.dumps(to_plain(facts), indent=1))
        return
    print(f"file       {path} ({len(file.content) / 1e6:.2f} MB)")
    print("\n".join([*file_lines(file), *contract_lines(contract)]))
    print(f"packages   {', '.join(installed_packages())}")
    if contract is None:
        print(f"next: python -m export.adapt {quote(str(path))} --classes classes.json")
    else:
        print(f"next: python -m runtime.camera --model {quote(str(path))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Print a model file's contract, size, accuracy and terms of use, without running it."
    return run_command("runtime.info", description, InfoOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
