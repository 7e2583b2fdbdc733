"""Class names of any script are drawn by a font that has them, or by their number with a word about it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.contract import ClassMap
from training.data.dataset import Sample
from training.evaluation.metrics import ConfusionMatrix
from training.figures import fonts
from training.figures.charts import draw_confusion, draw_curves
from training.figures.fonts import lettering
from training.figures.sheets import label_sheet

NAMES = {
    "Chinese": ("路面", "汽车"),
    "Japanese": ("どうろ", "クルマ"),
    "Arabic": ("طريق", "سيارة"),
    "Hindi": ("सड़क", "कार"),
    "accents": ("Straße", "véhicule"),
    "formulas": ("$x^2$", "a_{b}"),
    "mixed": ("路 road طريق", "b"),
}


@pytest.fixture
def square_font(tmp_path: Path) -> Iterator[str]:
    """A font that has one shape for all letters of the Chinese and Japanese names."""
    builder_module = pytest.importorskip("fontTools.fontBuilder")
    pen_module = pytest.importorskip("fontTools.pens.ttGlyphPen")
    from matplotlib.font_manager import fontManager

    letters = sorted({ord(letter) for name in ("Chinese", "Japanese") for letter in "".join(NAMES[name])})
    pen = pen_module.TTGlyphPen(None)
    for place, draw in (((0, 0), pen.moveTo), ((0, 700), pen.lineTo), ((700, 700), pen.lineTo)):
        draw(place)
    pen.closePath()
    names = [".notdef", *(f"u{letter:04X}" for letter in letters)]
    builder = builder_module.FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(dict(zip(letters, names[1:], strict=True)))
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "squares.ttf")
    known = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "squares.ttf")
    yield "Squares"
    fontManager.ttflist[:] = known
    fontManager._findfont_cached.cache_clear()


@pytest.fixture
def only_dejavu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a bare server, whatever this machine has."""
    from matplotlib.font_manager import fontManager

    bare = [
        font for font in fontManager.ttflist if font.name.startswith(("DejaVu", "Last Resort", "STIX", "cm"))
    ]
    monkeypatch.setattr(fontManager, "ttflist", bare)


def matrix() -> ConfusionMatrix:
    confusion = ConfusionMatrix(2)
    confusion.update(np.array([[0, 1]], np.uint8), np.array([[0, 1]], np.uint8))
    return confusion


def sheet(names: tuple[str, ...]) -> np.ndarray:
    label = (np.arange(64).reshape(8, 8) % 2).astype(np.uint8)
    sample = Sample(np.zeros((8, 8, 3), np.uint8), label, f"{names[0]}.png")
    return label_sheet([sample], ClassMap(names, ((0, 0, 0), (9, 9, 9))), f"data {names[1]}")


@pytest.mark.usefixtures("only_dejavu")
@pytest.mark.parametrize("script", NAMES)
def test_no_box_is_drawn_in_place_of_a_letter(
    tmp_path: Path, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Matplotlib's warning about a glyph would fail this test."""
    with caplog.at_level(logging.WARNING):
        draw_confusion(tmp_path / "confusion.png", matrix(), NAMES[script], f"of {NAMES[script][0]}")
        sheet(NAMES[script])
        draw_curves(tmp_path / "curves.png", [], f"run {NAMES[script][0]}")
    assert cv2.imread(str(tmp_path / "confusion.png")) is not None
    if script in ("Chinese", "Japanese", "Hindi", "mixed"):
        assert f"class 0 is {NAMES[script][0]}" in caplog.text
        assert "install a font" in caplog.text
    else:
        assert not caplog.records


@pytest.mark.parametrize("script", ["Chinese", "Japanese"])
def test_an_installed_font_that_has_the_letters_is_used(
    tmp_path: Path, script: str, square_font: str, caplog: pytest.LogCaptureFixture
) -> None:
    letters = lettering("road", *NAMES[script])
    assert not letters.missing
    assert letters.families[0] == "sans-serif"
    with caplog.at_level(logging.WARNING):
        draw_confusion(tmp_path / "confusion.png", matrix(), NAMES[script], "title")
        assert sheet(NAMES[script]).std() > 1
    assert not caplog.records


@pytest.mark.usefixtures("only_dejavu")
def test_what_cannot_be_drawn_is_a_number_in_names_and_an_escape_elsewhere() -> None:
    letters = lettering("路面", "car", "a\x1bb")
    assert letters.names(["car", "路面", "a\x1bb"]) == ["car", "class 1", "a\\x1bb"]
    assert letters.text("路 car") == "\\u8def car"


@pytest.mark.usefixtures("only_dejavu")
def test_a_matplotlib_that_joins_no_letters_draws_numbers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_shapes", lambda: False)
    assert lettering(*NAMES["Arabic"]).names(NAMES["Arabic"]) == ["class 0", "class 1"]
    assert lettering("road").names(["road"]) == ["road"]
