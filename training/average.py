"""Averages checkpoints of one network: what was learned last, and what was known before, in one file.

`python -m training.average runs/before.pt runs/fine-tuned/best.pt --out average.pt`. Where a training began
with the weights of an earlier one, the mean of both often does better on other roads than either, at no cost
(Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022; "Model soups", ICML 2022). Networks
that were trained from different random weights have nothing that could be averaged.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from runtime.base.flags import flag, run_command
from runtime.errors import CheckpointError, ConfigError


@dataclass(frozen=True, kw_only=True)
class AverageOptions:
    """What the command line asks for."""

    checkpoints: tuple[str, ...] = flag(
        "checkpoints of one network, by path or bundled name", name="checkpoints", metavar="CKPT"
    )
    out: Path = flag("the average", metavar="FILE")

    def __post_init__(self) -> None:
        """Check that there is something to average."""
        if len(self.checkpoints) < 2:
            raise ConfigError(f"checkpoints: expected two or more, got {len(self.checkpoints)}; name more")


def command(options: AverageOptions) -> None:
    """Write the mean of the weights, with the contract of the last file but for what was measured."""
    from training.engine.checkpoint import checkpoint_file, load_checkpoint, save_checkpoint

    loaded = [load_checkpoint(checkpoint_file(given)) for given in options.checkpoints]
    last = loaded[-1]
    for given, one in zip(options.checkpoints, loaded, strict=True):
        for what in ("kind", "config"):
            if getattr(one, what) != getattr(last, what):
                raise CheckpointError(f"{given}: expected the network of {options.checkpoints[-1]}; drop one")
        for what in ("normalization", "input"):
            if getattr(one.contract, what) != getattr(last.contract, what):
                raise CheckpointError(
                    f"{given}: expected the {what} of {options.checkpoints[-1]}, "
                    f"{getattr(last.contract, what)}, got {getattr(one.contract, what)}; drop one"
                )
        if one.contract.classes.names != last.contract.classes.names:
            raise CheckpointError(f"{given}: expected the classes of {options.checkpoints[-1]}; drop one")
    weights = {
        name: sum(one.weights[name].float() for one in loaded).div(len(loaded)).to(tensor.dtype)  # type: ignore[union-attr]
        for name, tensor in last.weights.items()
    }
    terms = "; ".join(dict.fromkeys(one.contract.origin.terms for one in loaded if one.contract.origin.terms))
    contract = dataclasses.replace(
        last.contract,
        accuracy=None,  # that of another network
        output=dataclasses.replace(last.contract.output, temperature=1.0),
        origin=dataclasses.replace(last.contract.origin, terms=terms),
    )
    save_checkpoint(options.out, dataclasses.replace(last, weights=weights, contract=contract, training=None))
    print(f"mean of {len(loaded)} checkpoints: {options.out}")
    print(
        f"\nnext: python -m training.evaluate {quote(str(options.out))} --data NAME --root DIR "
        "--fit-temperature"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    return run_command(
        "training.average", "Average checkpoints of one network.", AverageOptions, command, argv
    )


if __name__ == "__main__":
    sys.exit(main())
