"""What the pictures and texts say, without a browser."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.machine.yardstick import Noise
from benchmarks.render import canvas
from benchmarks.render.canvas import MISSING, THEME
from benchmarks.render.charts import operator_times
from benchmarks.render.document import (
    Bullets,
    Figure,
    Heading,
    LiveTable,
    Paragraph,
    Table,
    to_html,
    to_markdown,
    to_text,
)
from benchmarks.render.page import main_table, readme_blocks, report_blocks, write_report
from benchmarks.render.pareto import Candidate, candidates, draw_pareto, pareto_front
from benchmarks.results.results import Results, Rounds
from benchmarks.results.statistics import Estimate

Make = Callable[..., Results]
SVG = "{http://www.w3.org/2000/svg}"


def point(index: int, frame_ms: float, miou: float) -> Candidate:
    return Candidate(index, f"m{index}", miou, Estimate(frame_ms, frame_ms, frame_ms))


@pytest.mark.parametrize(
    ("places", "front"),
    [
        ([(5, 0.6), (10, 0.7)], [0, 1]),
        ([(10, 0.7), (5, 0.6)], [1, 0]),  # fastest first
        ([(5, 0.7), (10, 0.6)], [0]),  # worse in both
        ([(5, 0.6), (5, 0.7)], [1]),  # as fast and worse
        ([(5, 0.6), (10, 0.6)], [0]),  # as good and slower
        ([(5, 0.6), (7, 0.5), (9, 0.65), (9, 0.64)], [0, 2]),
        ([(5, 0.6)], [0]),
    ],
)
def test_the_front_is_what_no_other_beats(places: list[tuple[float, float]], front: list[int]) -> None:
    points = [point(index, *place) for index, place in enumerate(places)]
    assert [one.index for one in pareto_front(points)] == front


def texts_of(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_filled_dots_are_the_front() -> None:
    points = [point(0, 5, 0.6), point(1, 10, 0.7), point(2, 11, 0.5)]
    svg = draw_pareto(points).file()
    assert re.findall(r"fill: var\(--(ground|model\d)\)", svg)[1:] == ["model0", "model1", "ground"]


def test_models_without_accuracy_or_whole_frames_have_no_place(make_results: Make) -> None:
    results = make_results(labels=("a",), foreign=("theirs",))
    assert [one.label for one in candidates(results)] == ["a"]
    assert candidates(make_results(with_accuracy=False)) == []


def test_the_slowest_frame_is_in_the_distribution(make_results: Make) -> None:
    results = make_results(3)
    text = to_markdown("", [block for block in report_blocks(results) if isinstance(block, Table)])
    (figure,) = (b for b in report_blocks(results) if isinstance(b, Figure) and b.name == "distribution")
    said = " ".join(texts_of(figure.chart.file()))
    for model in results.models:
        assert f"{model.stage('total').max():.2f}" in text
        assert f"max {model.stage('total').max():.1f}" in said


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"with_accuracy": False},
        {"labels": (), "foreign": ("theirs", "others")},
        {"labels": tuple(f"model-{index}" for index in range(9)), "foreign": ("theirs",)},
    ],
)
def test_every_figure_is_well_formed_in_the_themes_colours_and_named(
    make_results: Make, options: dict[str, object]
) -> None:
    figures = [block for block in report_blocks(make_results(**options)) if isinstance(block, Figure)]
    assert figures
    for figure in figures:
        svg = figure.chart.file()
        root = ElementTree.fromstring(svg)
        assert root.get("aria-label") == figure.chart.title
        drawn = figure.chart.elements
        assert re.findall("#[0-9a-f]{6}", drawn) == []  # none that dark surroundings would not change
        assert set(re.findall(r"var\(--([\w-]+)\)", drawn)) <= set(re.findall(r"--([\w-]+):", THEME))
        assert "<style" not in drawn
        assert len(set(re.findall(r' id="([^"]*)"', drawn))) == drawn.count(' id="')


def test_figures_of_one_page_share_no_name(make_results: Make) -> None:
    page = to_html("", report_blocks(make_results()))
    names = re.findall(r' id="([^"]*)"', page)
    assert len(names) == len(set(names))


def test_without_matplotlib_the_report_has_no_figures_and_says_so(
    make_results: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write_report(tmp_path, make_results())
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.html",
        "report.md",
        "readme.md",
        "results.json",
    }
    report = (tmp_path / "report.md").read_text()
    assert MISSING in report
    assert "| p50, ms | resize | network |" in report
    assert "![" not in report
    assert "## Distribution" not in report
    assert "pip install" not in (tmp_path / "readme.md").read_text()


def test_no_time_of_an_operator_is_lost(make_results: Make) -> None:
    times = operator_times(make_results())
    assert list(times) == ["small", "large"]
    assert sum(times["small"].values()) == pytest.approx(6.0)
    assert next(iter(times["large"])) == "Conv"
    assert len(times["large"]) == 8
    assert times["large"]["others"] == pytest.approx(12 * (2 * 0.06 + 0.02))


def test_the_page_needs_nothing_but_itself(make_results: Make) -> None:
    page = to_html("title", report_blocks(make_results()))
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert re.findall(r"url\((?!#)", page) == []
    assert page.count("<svg") == 6


def test_names_from_files_cannot_become_markup(make_results: Make) -> None:
    results = make_results(labels=('<script>alert("1")</script>', "a|b"))
    blocks = report_blocks(results)
    page = to_html("<b>", blocks)
    assert "<script" not in page
    assert "<b>" not in page
    rows = [line for line in to_markdown("", [main_table(results)]).splitlines() if line.startswith("| a")]
    assert rows[0].startswith("| a\\|b |")
    for block in blocks:
        if isinstance(block, Figure):
            ElementTree.fromstring(block.chart.file())


def test_a_ratio_says_how_sure_it_is(make_results: Make) -> None:
    table = main_table(make_results(5))
    ratio = table.rows[1][table.header.index("frame ×")]
    match = re.fullmatch(r"([\d.]+) \(([\d.]+)–([\d.]+)\)", ratio)
    assert match
    assert 1.85 < float(match[2]) <= float(match[1]) <= float(match[3]) < 2.15  # made twice as slow
    assert table.rows[0][table.header.index("frame ×")] == "1"


def test_what_was_not_measured_is_a_dash(make_results: Make) -> None:
    table = main_table(make_results(labels=("ours",), foreign=("theirs",)))
    row = dict(zip(table.header, table.rows[1], strict=True))
    assert [row[name] for name in ("mIoU", "frame p50", "max", "frame ×")] == ["–"] * 4
    assert row["network ×"] != "–"


def test_the_readme_part_has_picture_table_and_five_lines(make_results: Make) -> None:
    picture, table, lines = readme_blocks(make_results())
    assert isinstance(picture, Figure)
    assert isinstance(table, Table)
    assert isinstance(lines, Bullets)
    assert len(lines.items) == 5
    assert to_markdown("", [picture]).startswith("![mIoU against milliseconds")


def test_markdown_and_html_of_the_parts() -> None:
    blocks = [Heading("Head"), Paragraph("see `code` & more"), Table(("a", "b"), [("x", "1")])]
    assert to_markdown("Title", blocks) == (
        "# Title\n\n## Head\n\nsee `code` & more\n\n| a | b |\n| --- | ---: |\n| x | 1 |\n"
    )
    page = to_html("Title", blocks)
    assert "<p>see <code>code</code> &amp; more</p>" in page
    assert '<tr><th scope="row">x</th><td>1</td></tr>' in page


def test_narrow_sections_stand_in_columns() -> None:
    page = to_html("", [Heading("a"), Heading("b", wide=False), Heading("c", wide=False), Heading("d")])
    inside = page.partition('<div class="columns">')[2].partition("</div>")[0]
    assert re.findall("<h2>(.)</h2>", inside) == ["b", "c"]


def test_a_last_column_of_notes_is_text() -> None:
    table = Table(("model", "ms", "verdict"), [("a", "10", "SLOWER"), ("bb", "9", "")], has_notes=True)
    assert to_text([table]).splitlines() == ["model  ms  verdict", "a      10  SLOWER", "bb      9"]
    assert "| --- | ---: | --- |" in to_markdown("", [table])


def test_rows_that_come_one_by_one_stand_below_their_heads() -> None:
    out = io.StringIO()
    table = LiveTable(("s", "a long head"), out, width=5)
    table.row(("60", "1.5"))
    assert out.getvalue() == "    s a long head\n   60         1.5\n"


def evenly(results: Results) -> Results:
    """Return results of a machine that never changed."""
    models = tuple(
        replace(model, stages_ms={name: rows[:1] * len(rows) for name, rows in model.stages_ms.items()})
        for model in results.models
    )
    return replace(results, models=models)


def test_what_slows_all_models_at_once_is_the_machine(make_results: Make) -> None:
    calm = replace(evenly(make_results()), noise=noise(3))
    assert calm.unrest_percent == pytest.approx(0)
    assert not calm.is_noisy

    def slowed(index: int, rows: Rounds) -> Rounds:
        return tuple(
            tuple(1.3 * one for one in row) if number > 20 or number == index else row
            for number, row in enumerate(rows)
        )

    models = tuple(
        replace(model, stages_ms={name: slowed(index, rows) for name, rows in model.stages_ms.items()})
        for index, model in enumerate(calm.models)
    )
    restless = replace(calm, models=models)
    assert restless.unrest_percent == pytest.approx(30)
    assert restless.is_noisy  # though the yardstick felt nothing


def noise(spread: float) -> Noise:
    return Noise(100, 24.0, spread, spread, 0.0, 0.0)


@pytest.mark.parametrize(
    ("before", "meanwhile", "warning", "says"),
    [
        (3, 3, False, "quiet enough"),
        (3, 30, True, "noisy during the measurement"),
        (30, 3, True, "noisy before the measurement"),
        (30, 30, True, "noisy during the measurement"),
    ],
)
def test_a_noisy_machine_is_called_noisy_at_the_top(
    make_results: Make,
    monkeypatch: pytest.MonkeyPatch,
    before: float,
    meanwhile: float,
    warning: bool,
    says: str,
) -> None:
    monkeypatch.setattr(canvas, "available", lambda: False)  # figures take longest, and say nothing of it
    results = evenly(make_results())
    results = replace(results, noise=noise(meanwhile), machine=replace(results.machine, noise=noise(before)))
    summary = report_blocks(results)[:4]
    (verdict,) = (
        block for block in summary if isinstance(block, Paragraph) and "The machine was" in block.text
    )
    assert verdict.warning is warning
    assert says in verdict.text
    assert f"is {max(before, meanwhile) if warning else 3} % above the median" in verdict.text
