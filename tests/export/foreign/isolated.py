"""What is done in a process of its own; no torch here, which that process would have to load."""

import os

import numpy as np

from runtime.errors import ConfigError


def double(number: int) -> int:
    return 2 * number


def refuse() -> None:
    raise ConfigError("no")


def die() -> None:
    os._exit(11)


def keep() -> list[int]:
    kept = [np.ones(1 << 27) for _ in range(40)]
    return [len(one) for one in kept]


def defect() -> None:
    raise KeyError("a defect")
