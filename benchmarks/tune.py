"""Finds the best settings for a latency target: `python -m benchmarks.tune --target-ms 10`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from benchmarks.render.document import to_text
from benchmarks.render.reports import tune_blocks
from benchmarks.timing.tune import TuneConfig, TuneError, camera_flags, ranked, tune
from runtime.base.codec import to_plain
from runtime.base.flags import flag, nested, run_command


@dataclass(frozen=True)
class TuneOptions:
    """What the command line asks for."""

    config: TuneConfig = nested(TuneConfig)
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: TuneOptions) -> None:
    """Measure every setting and print."""
    report = tune(options.config)
    print(json.dumps(to_plain(report), default=str) if options.as_json else to_text(tune_blocks(report)))
    if report.best is None:
        fastest = min(trial.total_ms["p90"] for trial in report.trials)
        raise TuneError(
            f"{report.model}: expected a p90 of at most {options.config.target_ms:g} ms, the best of "
            f"{len(report.trials)} settings has {fastest:.1f} ms; take a smaller network or resolution"
        )
    if not options.as_json:
        choices = ranked(report.trials)
        if report.target_ms is not None and len(choices) > 1:
            steps = " ".join(quote(str(choice)) for choice in choices)
            print(
                "\nto step down under load: python -m runtime.camera "
                f"--target-ms {report.target_ms:g} --steps {steps}"
            )
        print(f"\nnext: python -m runtime.camera {camera_flags(report.best.setting)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Find the best file, threads, spinning and resolution for a target."
    return run_command("benchmarks.tune", description, TuneOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
