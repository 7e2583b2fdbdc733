"""Names of strangers in a report: nothing of them becomes a tag, a cell or a row."""

import pytest

from benchmarks.render.document import Bullets, Heading, Paragraph, Table, to_html, to_markdown

EVIL = "<script>alert(1)</script>|x\n| y"


@pytest.mark.parametrize(
    "block", [Heading(EVIL), Paragraph(EVIL), Bullets((EVIL,)), Table(("a", EVIL), ((EVIL, "1"),))]
)
def test_no_name_becomes_a_tag(block):
    assert "<script" not in to_html(EVIL, [block])
    assert "<script" not in to_markdown(EVIL, [block])


def test_no_name_becomes_a_cell_or_a_row():
    lines = to_markdown("", [Table(("a", "b"), ((EVIL, "1"),))]).strip().splitlines()
    assert lines == ["| a | b |", "| --- | ---: |", r"| &lt;script>alert(1)&lt;/script>\|x \| y | 1 |"]


def test_code_stays_as_it_is():
    assert to_markdown("", [Paragraph("take `a<b>` where x < 3")]) == "take `a<b>` where x < 3\n"
