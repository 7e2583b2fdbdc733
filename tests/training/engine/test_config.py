import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.base.command import make_parser
from runtime.base.flags import add_flags, options_of
from training.engine.config import TrainConfig
from training.train import TrainOptions

REQUIRED = ["--data", "camvid", "--out", "run"]
# One value for each setting that is not its default.
OTHER = {
    "fit": "crop",
    "network": "residual-n",
    "depths": (1, 1, 1, 1),
    "plain": True,
    "dropout": 0.25,
    "drop_path": 0.5,
    "aux_weight": 0.5,
    "teacher": "teacher.pt",
    "distill_weight": 0.5,
    "feature_weight": 0.5,
    "soft_labels": ("a/soft", "b/soft"),
    "unlabelled": "drive",
    "unlabelled_share": 0.5,
    "class_map": "cityscapes-to-camvid",
    "size_hw": (32, 64),
    "crop_hw": (64, 96),
    "color_strength": 0.5,
    "style": 0.5,
    "synthetic_share": 0.5,
    "synthetic_scenes": 3,
    "synthetic_varied": True,
    "epochs": 4,
    "batch_size": 6,
    "optimizer": "sgd",
    "learning_rate": 0.5,
    "weight_decay": 0.25,
    "schedule": "poly",
    "warmup_epochs": 1,
    "loss": "cross-entropy",
    "label_smoothing": 0.25,
    "loss_stride": 2,
    "average_decay": 0.5,
    "validate_every": 5,
    "patience": 7,
    "samples_every": 8,
    "init_from": "source.pt",
    "freeze": "stem",
    "checkpoint_every_steps": 9,
    "precision": "bf16",
    "compile": True,
    "workers": 2,
    "seed": 11,
    "device": "meta",
}
FLAG_OF = {"size_hw": "--size", "crop_hw": "--crop"}


def options_from(*flags: str) -> TrainOptions:
    parser = make_parser("training.train", "")
    add_flags(parser, TrainOptions)
    return options_of(TrainOptions, parser.parse_args([*REQUIRED, *flags]))


def test_no_flags_give_the_default_settings() -> None:
    assert options_from().config == TrainConfig()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TrainConfig)])
def test_each_setting_has_a_flag(name: str) -> None:
    value = OTHER[name]
    flag = FLAG_OF.get(name, "--" + name.replace("_", "-"))
    words = [] if value is True else [str(word) for word in (value if isinstance(value, tuple) else (value,))]
    base = TrainConfig(init_from="other.pt")  # without which nothing can be frozen
    expected = dataclasses.replace(base, **{name: value})  # type: ignore[arg-type]
    assert expected != base
    assert options_from("--init-from", "other.pt", flag, *words).config == expected


def test_help_shows_the_flags_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    parser = make_parser("training.train", "")
    add_flags(parser, TrainOptions)
    parser.print_help()
    lines = capsys.readouterr().out.splitlines()
    titles = [line for line in lines if line and line[0] != " " and line.endswith(":")]
    assert titles == [
        "options:",
        "data:",
        "network:",
        "schedule:",
        "loss:",
        "against over-fitting:",
        "results:",
        "machine:",
    ]


def test_the_options_hold_where_to_read_and_write() -> None:
    options = options_from("--root", "data", "--leave-out", "0006R0", "--resume")
    assert (options.data.data, options.data.root, options.leave_out) == ("camvid", "data", "0006R0")
    assert (options.out, options.resume) == (Path("run"), True)


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "doctor"], ids=lambda command: f"training.{command}"
)
def test_help_does_without_torch(command: str, heavy_modules_loaded_by: Callable[..., list[str]]) -> None:
    assert heavy_modules_loaded_by(f"training.{command}") == []
