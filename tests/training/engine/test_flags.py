import dataclasses
from pathlib import Path

import pytest

from runtime.base.command import make_parser
from training.engine.config import TrainConfig
from training.engine.flags import add_flags, config_of

REQUIRED = ["--data", "camvid", "--out", "run"]
# One value for each setting that is not its default.
OTHER = {
    "network": "residual-n",
    "depths": (1, 1, 1, 1),
    "plain": True,
    "dropout": 0.25,
    "drop_path": 0.5,
    "aux_weight": 0.5,
    "teacher": "teacher.pt",
    "distill_weight": 0.5,
    "size_hw": (32, 64),
    "crop_hw": (64, 96),
    "color_strength": 0.5,
    "style": 0.5,
    "synthetic_share": 0.5,
    "synthetic_scenes": 3,
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


def config_from(*flags: str) -> TrainConfig:
    parser = make_parser("training.train", "")
    add_flags(parser)
    return config_of(parser.parse_args([*REQUIRED, *flags]))


def test_no_flags_give_the_default_settings() -> None:
    assert config_from() == TrainConfig()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TrainConfig)])
def test_each_setting_has_a_flag(name: str) -> None:
    value = OTHER[name]
    flag = FLAG_OF.get(name, "--" + name.replace("_", "-"))
    words = [] if value is True else [str(word) for word in (value if isinstance(value, tuple) else (value,))]
    base = TrainConfig(init_from="other.pt")  # without which nothing can be frozen
    expected = dataclasses.replace(base, **{name: value})  # type: ignore[arg-type]
    assert expected != base
    assert config_from("--init-from", "other.pt", flag, *words) == expected


def test_help_shows_the_flags_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    parser = make_parser("training.train", "")
    add_flags(parser)
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


def test_the_namespace_holds_where_to_read_and_write() -> None:
    parser = make_parser("training.train", "")
    add_flags(parser)
    args = parser.parse_args([*REQUIRED, "--root", "data", "--leave-out", "0006R0", "--resume"])
    assert (args.data, args.root, args.leave_out) == ("camvid", "data", "0006R0")
    assert (args.out, args.resume) == (Path("run"), True)
