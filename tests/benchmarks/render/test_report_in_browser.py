"""The report in a real Chromium: silent, whole on a phone, legible in the dark."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.render.page import write_report
from benchmarks.results.results import Results


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, make_results: Callable[..., Results]) -> str:
    out = tmp_path_factory.mktemp("report")
    labels = ("camvid-n", "camvid-n-int8", "camvid-s", "a-model-with-quite-a-long-name")
    write_report(out, make_results(labels=labels, foreign=("theirs",)))
    return (out / "report.html").as_uri()


def opened(chromium: Any, address: str, width: int, scheme: str) -> None:
    """Open the page in a window of a width, and a colour scheme."""
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    chromium.get_log("browser")
    chromium.get(address)


@pytest.mark.parametrize("width", [320, 390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_silent_and_no_wider_than_the_screen(
    chromium: Any, address: str, width: int, scheme: str
) -> None:
    opened(chromium, address, width, scheme)
    assert chromium.get_log("browser") == []
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
    pictures = "return [...document.querySelectorAll('svg.figure')].map(s => s.getBoundingClientRect().width)"
    widths = chromium.execute_script(pictures)
    assert len(widths) == 6
    assert min(widths) > 250


@pytest.mark.parametrize("width", [390, 1200])
def test_no_two_texts_of_a_figure_overlap(chromium: Any, address: str, width: int) -> None:
    opened(chromium, address, width, "light")
    overlaps = chromium.execute_script(
        """
        return [...document.querySelectorAll("svg.figure")].flatMap(figure => {
          const texts = [...figure.querySelectorAll("text")].map(one => [one, one.getBoundingClientRect()]);
          return texts.flatMap(([one, a], place) => texts.slice(place + 1).filter(([other, b]) =>
            Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
            Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.3 * Math.min(a.height, b.height)
          ).map(([other]) => `${one.textContent} and ${other.textContent}`));
        });
        """
    )
    assert overlaps == []


def test_no_text_of_a_figure_leaves_it(chromium: Any, address: str) -> None:
    opened(chromium, address, 1200, "light")
    outside = chromium.execute_script(
        """
        return [...document.querySelectorAll("svg.figure text")].filter(text => {
          const box = text.getBoundingClientRect(), frame = text.ownerSVGElement.getBoundingClientRect();
          return box.left < frame.left - 2 || box.right > frame.right + 2;
        }).map(text => text.textContent)
        """
    )
    assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(chromium: Any, address: str, scheme: str) -> None:
    opened(chromium, address, 1200, scheme)
    colors = chromium.execute_script(
        """
        const parsed = color => color.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const ground = parsed(getComputedStyle(document.querySelector("section")).backgroundColor);
        const texts = ["td", "p", "figcaption", ".figure text", "thead th"];
        return [ground, texts.map(place => {
          const style = getComputedStyle(document.querySelector(place));
          return parsed(place.startsWith(".figure") ? style.fill : style.color);
        })];
        """
    )
    ground, texts = colors
    for text in texts:
        assert contrast(text, ground) >= 4.5, json.dumps(colors)


def test_a_figure_is_a_file_of_its_own(chromium: Any, address: str) -> None:
    picture = str(Path(address).parent / "pareto.svg").replace("file:/", "file:///")
    opened(chromium, picture, 1200, "dark")
    assert chromium.get_log("browser") == []
    assert chromium.execute_script("return document.documentElement.nodeName") == "svg"


def contrast(one: list[float], other: list[float]) -> float:
    """Return the contrast ratio of two sRGB colours (WCAG 2.2)."""
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(rgb: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
