import pytest

from export.int8.target import TARGETS, detect_target
from runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "name"),
    [
        ("x86_64", "flags : fpu avx2 avx512_vnni", "x86-vnni"),
        ("x86_64", "flags : fpu avx2 avx_vnni", "x86-vnni"),
        ("x86_64", "flags : fpu avx2", "x86"),
        ("AMD64", "", "x86"),  # Windows, which has no /proc/cpuinfo
        ("aarch64", "", "arm"),
        ("arm64", "", "arm"),  # macOS
    ],
)
def test_the_preset_fits_the_processor(machine: str, cpuinfo: str, name: str) -> None:
    assert detect_target(machine, cpuinfo) is TARGETS[name]


def test_an_unknown_processor_is_an_error_that_offers_the_presets() -> None:
    with pytest.raises(ConfigError, match="got 'riscv64'; choose one of x86-vnni, x86, arm"):
        detect_target("riscv64", "")


def test_weights_keep_to_seven_bits_without_vnni() -> None:
    assert {name: target.weight_limit for name, target in TARGETS.items()} == {
        "x86-vnni": 127,
        "x86": 63,
        "arm": 127,
    }
