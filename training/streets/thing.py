"""What anything on the street can do."""

from __future__ import annotations

from typing import Protocol

from training.streets.camera import Points
from training.streets.canvas import Canvas, Shot
from training.streets.light import Light


class Thing(Protocol):
    """Anything on the street that throws a shadow and is painted in its turn."""

    @property
    def s(self) -> float:
        """Metres along the street."""

    @property
    def x(self) -> float:
        """Metres right of the centre line."""

    def shadows(self, light: Light) -> list[tuple[Points, float]]:
        """Return polygons on the ground, and the share of light left on each."""

    def outline(self) -> Points:
        """Return its world points (N, 3)."""

    def paint(self, canvas: Canvas, shot: Shot) -> None:
        """Paint colour and label, given its points as seen."""
