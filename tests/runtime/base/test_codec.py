from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import pytest

from runtime.base.codec import DecodeError, from_plain, to_plain


@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0


@dataclass(frozen=True)
class Shape:
    points: tuple[Point, ...]
    size_hw: tuple[int, int]
    kind: Literal["open", "closed"] = "open"
    label: str | None = None
    scores: dict[str, float | None] | None = None


def test_round_trip_through_json():
    shape = Shape((Point(1.5), Point(2.0, 3.0)), (4, 5), "closed", "a", {"iou": 0.5, "none": None})
    assert from_plain(Shape, json.loads(json.dumps(to_plain(shape)))) == shape


def test_absent_fields_take_their_defaults():
    assert from_plain(Shape, {"points": [], "size_hw": [1, 2]}) == Shape((), (1, 2))


def test_a_whole_number_passes_for_a_float():
    assert from_plain(Point, {"x": 3}) == Point(3.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size_hw": [1]}, "size_hw: expected 2 items, got 1"),
        ({"size_hw": "12"}, "size_hw: expected a list, got str"),
        ({"size_hw": [1, 2.0]}, r"size_hw\[1\]: expected int, got 2\.0"),
        ({"size_hw": [1, True]}, r"size_hw\[1\]: expected int, got True"),
        ({"points": [{"x": "1"}]}, r"points\[0\]\.x: expected float, got '1'"),
        ({"points": [{"x": float("nan")}]}, r"points\[0\]\.x: expected a finite number"),
        ({"points": [{"x": 10**400}]}, r"points\[0\]\.x: expected a finite number, got 401 digits"),
        ({"points": [{"y": 1.0}]}, r"points\[0\]\.x: missing"),
        ({"points": [3]}, r"points\[0\]: expected an object, got int"),
        ({"kind": "round"}, "kind: expected one of .*'round'"),
        ({"label": 3}, "label: expected str, got 3"),
        ({"scores": []}, "scores: expected an object, got list"),
        ({"scores": {"iou": "high"}}, "scores.iou: expected float"),
        ({"colour": 1}, "colour: unknown field"),
    ],
)
def test_names_the_field_that_is_wrong(changes, says):
    with pytest.raises(DecodeError, match=says):
        from_plain(Shape, {"points": [], "size_hw": [1, 2], **changes})


def test_names_a_missing_field():
    with pytest.raises(DecodeError, match="size_hw: missing"):
        from_plain(Shape, {"points": []})


def test_refuses_what_is_no_object():
    with pytest.raises(DecodeError, match="Shape: expected an object, got list"):
        from_plain(Shape, [])


def test_plain_values_hold_no_lone_surrogate():
    plain = to_plain({"caf\udce9": ["\ud800", ("ünïcode 路", 3)]})
    assert plain == {"caf\\udce9": ["\\ud800", ["ünïcode 路", 3]]}
    json.dumps(plain, ensure_ascii=False).encode()
