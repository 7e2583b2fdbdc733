"""The console command `edgeseg`: every command of the four packages under one name.

    edgeseg camera --source synthetic

is `python -m runtime.camera --source synthetic`. Nothing is imported but what the command itself needs.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import NamedTuple

from runtime.base.command import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    PROGRAMS,
    exit_code,
    has_working_directory,
    prepare_output,
)
from runtime.base.installation import missing_packages
from runtime.base.shown import shown

EXIT_USAGE = 2
_OURS = ("runtime", "training", "export", "benchmarks")
_LIBRARIES = {"torch": "PyTorch", "onnx_ir": "onnx-ir"}  # whose module has another name


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        module: whose `main` it is.
        extra: what pip must install for it beside the base; "" for nothing.
        summary: what it does, in a few words.
    """

    module: str
    extra: str
    summary: str


COMMANDS = {
    "camera": Command("runtime.camera", "", "segment a camera, stream, video or images"),
    "calibrate": Command("runtime.calibrate", "", "calibrate a camera, so that pixels become metres"),
    "archive": Command("runtime.archive", "", "segment recordings by the thousand, on Ray or without"),
    "info": Command("runtime.info", "", "print a model's contract, accuracy and terms of use"),
    "ros-node": Command("runtime.ros_node", "ros", "run a node of ROS 2 (never yet tried inside ROS)"),
    "label": Command(
        "training.label", "train", "label recordings with any networks; choose frames to correct"
    ),
    "train": Command("training.train", "train", "train a network"),
    "recipe": Command("training.recipe", "train", "train a network in the stages of a recipe"),
    "self-train": Command("training.self_train", "train", "adapt a network to a road without labels"),
    "average": Command("training.average", "train", "average checkpoints of one network"),
    "evaluate": Command("training.evaluate", "train", "measure a checkpoint in PyTorch"),
    "doctor": Command("training.doctor", "train", "list every fault of a data set"),
    "export": Command("export.to_onnx", "export", "write a checkpoint as ONNX and prove the file"),
    "quantize": Command("export.quantize", "export", "write an int8 file that keeps its accuracy"),
    "features": Command("export.features", "export", "let a file also give what its layers say, to teach"),
    "adapt": Command("export.adapt", "export", "give an ONNX file of others a contract"),
    "inspect": Command("export.inspect", "export", "describe an ONNX file in depth: operators, work, size"),
    "latency": Command("benchmarks.latency", "bench", "time each stage of a frame"),
    "accuracy": Command("benchmarks.accuracy", "bench", "measure an ONNX file's mIoU"),
    "report": Command("benchmarks.report", "bench", "compare ONNX files on one page"),
    "compare": Command("benchmarks.compare", "bench", "find what changed between two reports"),
    "stream": Command("benchmarks.stream", "bench", "measure how old masks are behind a camera"),
    "throughput": Command("benchmarks.throughput", "bench", "compare the loop with the network alone"),
    "tune": Command("benchmarks.tune", "bench", "find the best threads and size for a target"),
    "limits": Command("benchmarks.limits", "bench", "find the layers that lose most time"),
    "soak": Command("benchmarks.soak", "bench", "run for hours and watch for leaks"),
    "faults": Command("benchmarks.faults", "bench", "strike recordings and say what they lost"),
    "steadiness": Command("benchmarks.steadiness", "bench", "measure what steady masks give and cost"),
    "archive-rate": Command("benchmarks.archive", "all", "measure archives, and kill them"),
    "ground": Command("benchmarks.ground", "all", "compare metres with exact rendered streets"),
    "demo": Command("benchmarks.demo", "all", "train, export, run and measure on built-in scenes"),
    "recipe-ablation": Command("benchmarks.recipe_ablation", "all", "measure each part of a training"),
    "selection-ablation": Command(
        "benchmarks.selection_ablation", "all", "compare training on selected frames with others"
    ),
    "residual-ablation": Command(
        "benchmarks.residual_ablation", "all", "compare residual with plain networks"
    ),
}


def usage() -> str:
    """Return the list of commands as `edgeseg --help` prints it."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: edgeseg [-h] [--version] COMMAND ...",
            "",
            "Semantic segmentation in real time: train in PyTorch, export to ONNX, run on a camera.",
            "",
            "commands:",
            *(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()),
            "",
            "edgeseg COMMAND --help lists a command's flags.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    name, *arguments = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    prepare_output()
    if name in ("-h", "--help"):
        return exit_code(lambda: print(usage()), uses_opencv=False)
    if name == "--version":
        return exit_code(lambda: print(f"edgeseg {metadata.version('edgeseg')}"), uses_opencv=False)
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        meant = f"did you mean {close[0]}?" if close else "edgeseg --help lists the commands"
        print(f"edgeseg: unknown command {shown(name)!r}; {meant}", file=sys.stderr)
        return EXIT_USAGE
    return _run(name, arguments)


def _run(name: str, arguments: Sequence[str]) -> int:
    """Import a command and run it; a package that is missing is an error of one line."""
    module, extra, _ = COMMANDS[name]
    if missing := missing_packages():
        return _fail(missing[0])
    if not has_working_directory():  # some libraries end the process without saying so
        print("warning: the working directory is gone; change to one that is there", file=sys.stderr)
    PROGRAMS[module] = f"edgeseg {name}"
    try:
        return int(import_module(module).main(arguments))
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if not package or package in _OURS:
            raise
        library = _LIBRARIES.get(package, package)
        return _fail(f"edgeseg {name} needs {library}; pip install 'edgeseg[{extra or 'all'}]'")
    except KeyboardInterrupt:  # while the command was imported; later it answers itself
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        del PROGRAMS[module]  # whoever calls the module next has typed something else


def _fail(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return EXIT_ERROR


if __name__ == "__main__":
    sys.exit(main())
