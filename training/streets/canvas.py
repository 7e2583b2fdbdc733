"""The picture being painted: strokes that colour and label at once, from far to near."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from training.streets.camera import NEAR_M, ONE, SHIFT, Camera, Points, clip_near
from training.streets.light import Light
from training.streets.textures import Color, Image, Texture

_SPECK_PX = 90  # on less than this a texture shows as its mean colour
_FAR = 30000.0 * ONE  # what OpenCV's own arithmetic can carry


@dataclass(frozen=True)
class Shot:
    """World points as the camera sees them.

    Attributes:
        points: float64 (N, 2) fixed-point pixels where all are in front of the camera, else points
            (N, 3) as `Camera.view` gives them. Means of points keep their meaning; `Canvas.fill` takes both.
        distance_m: mean distance ahead.
        px_per_m: scale at that distance.
        whole: whether all points are in front of the camera.
    """

    points: Points
    distance_m: float
    px_per_m: float
    whole: bool

    def aside(self, metres: float) -> Points:
        """Return the step (2,) of so many metres to the picture's right, in a whole shot's pixels."""
        return np.array([metres * self.px_per_m * ONE, 0.0])


class Canvas:
    """An image and its label, painted together.

    Attributes:
        camera: maps the world to pixels.
        light: colours surfaces.
        image: uint8 (H, W, 3) BGR.
        label: uint8 (H, W) class indices.
        shade: uint8 (H, W) share of light that reaches the ground, 255 = all.
    """

    def __init__(self, camera: Camera, light: Light) -> None:
        """Start an empty picture."""
        self.camera = camera
        self.light = light
        self.image: Image = np.zeros((*camera.size_hw, 3), np.uint8)
        self.label: Image = np.zeros(camera.size_hw, np.uint8)
        self.shade: Image = np.full(camera.size_hw, 255, np.uint8)

    def shots(self, outlines: Sequence[Points]) -> list[Shot | None]:
        """Return each array of world points (N, 3) as seen, or None where none of it is in view.

        All are projected at once, since a picture holds hundreds of small arrays.
        """
        if not outlines:
            return []
        sizes = [len(points) for points in outlines]
        ends = list(itertools.accumulate(sizes))
        starts = [0, *ends[:-1]]
        view = self.camera.view(np.concatenate(outlines))
        depth = view[:, 2]
        nearest = np.minimum.reduceat(depth, starts).tolist()
        furthest = np.maximum.reduceat(depth, starts).tolist()
        points = (view[:, :2] / np.maximum(depth, NEAR_M)[:, None]).clip(-_FAR, _FAR)
        low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
        height, width = self.camera.size_hw
        below, beyond = (high < 0).any(axis=1), (low >= (width * ONE, height * ONE)).any(axis=1)
        outside = np.logical_or(below, beyond)
        shots: list[Shot | None] = []
        for start, end, near, far, hidden in zip(
            starts, ends, nearest, furthest, outside.tolist(), strict=True
        ):
            distance = max(NEAR_M, 0.5 * (near + far))
            if far < NEAR_M or (hidden and near >= NEAR_M):
                shots.append(None)
            elif near < NEAR_M:
                shots.append(Shot(view[start:end], distance, self.camera.focal_px / distance, False))
            else:
                shots.append(Shot(points[start:end], distance, self.camera.focal_px / distance, True))
        return shots

    def _corners(self, points: Points) -> npt.NDArray[np.int32] | None:
        """Return what OpenCV fills, or None where nothing is left in front of the camera."""
        if points.shape[1] == 3:
            if points[:, 2].min() < NEAR_M:
                points = clip_near(points)
                if len(points) < 3:
                    return None
            points = (points[:, :2] / points[:, 2:]).clip(-_FAR, _FAR)
        return np.rint(points).astype(np.int32)

    def fill(self, points: Points, color: Color, class_id: int | None) -> None:
        """Fill a polygon of a shot's points with a final colour; class_id None keeps the label."""
        corners = self._corners(points)
        if corners is None:
            return
        cv2.fillPoly(self.image, [corners], color, cv2.LINE_AA, SHIFT)
        if class_id is not None:
            cv2.fillPoly(self.label, [corners], class_id, cv2.LINE_8, SHIFT)

    def fill_label(self, points: Points, class_id: int) -> None:
        """Label a polygon and leave the colours: what is seen through a thing still counts as the thing."""
        corners = self._corners(points)
        if corners is not None:
            cv2.fillPoly(self.label, [corners], class_id, cv2.LINE_8, SHIFT)

    def darken(self, shadows: Sequence[tuple[Points, float]]) -> None:
        """Leave a share of light (0..1) on the ground under polygons of world points; the last one wins."""
        shots = self.shots([outline for outline, _ in shadows])
        for shot, (_, light_left) in zip(shots, shadows, strict=True):
            corners = None if shot is None else self._corners(shot.points)
            if corners is not None:
                cv2.fillPoly(self.shade, [corners], int(255 * light_left), cv2.LINE_8, SHIFT)

    def limb(self, points: Points, width_px: float, color: Color, class_id: int | None) -> None:
        """Draw a round bar along pixels (N, 2) of a whole shot, at least one pixel wide."""
        wide = max(1, round(width_px))
        path = [np.rint(points).astype(np.int32)]
        cv2.polylines(self.image, path, False, color, wide, cv2.LINE_AA, SHIFT)
        if class_id is not None:
            cv2.polylines(self.label, path, False, class_id, wide, cv2.LINE_8, SHIFT)

    def glow(self, center: Points, radius_px: float, color: Color) -> None:
        """Add the light of a lamp around one pixel (2,) of a whole shot; its label stays."""
        radius = max(2, round(radius_px))
        x, y = (round(float(each) / ONE) for each in center)
        height, width = self.camera.size_hw
        left, up, right, down = (
            max(0, x - radius),
            max(0, y - radius),
            min(width, x + radius),
            min(height, y + radius),
        )
        if right <= left or down <= up or radius > width:
            return
        rows = (np.arange(up, down, dtype=np.float32) - y)[:, None] / radius
        columns = (np.arange(left, right, dtype=np.float32) - x)[None] / radius
        share = np.maximum(0.0, 1.0 - rows * rows - columns * columns) ** 3
        part = self.image[up:down, left:right]
        cv2.add(part, (share[..., None] * np.asarray(color, np.float32)).astype(np.uint8), part)

    def disc(self, center: Points, radius_px: float, color: Color, class_id: int | None) -> None:
        """Draw a ball around one pixel (2,) of a whole shot."""
        at = (round(float(center[0])), round(float(center[1])))
        radius = max(ONE // 2, round(radius_px * ONE))
        cv2.circle(self.image, at, radius, color, -1, cv2.LINE_AA, SHIFT)
        if class_id is not None:
            cv2.circle(self.label, at, radius, class_id, -1, cv2.LINE_8, SHIFT)

    def paste(
        self,
        texture: Texture,
        quad: Points,
        gain: Color,
        distance_m: float,
        class_id: int,
        whole: bool = False,
        repeat: float = 1.0,
    ) -> None:
        """Lay a texture on a rectangle.

        Args:
            texture: what to lay.
            quad: four of a shot's points: top left, top right, bottom right, bottom left of the texture.
            gain: light on it.
            distance_m: how much air is in front of it.
            class_id: its class.
            whole: label the rectangle with its holes, as people label a fence.
            repeat: the share of the texture's width to use, from its left edge.
        """
        first, last = 0.0, 1.0
        if quad.shape[1] == 3:
            span = _near_span(quad)
            if span is None:
                return
            first, last = span
            top, bottom = quad[1] - quad[0], quad[2] - quad[3]
            quad = np.stack(
                (
                    quad[0] + top * first,
                    quad[0] + top * last,
                    quad[3] + bottom * last,
                    quad[3] + bottom * first,
                )
            )
            quad = quad[:, :2] / quad[:, 2:]
        corners = quad / ONE + 0.5  # in pixels, from the picture's corner
        height, width = self.camera.size_hw
        (x0, y0), (x1, y1) = np.minimum.reduce(corners).tolist(), np.maximum.reduce(corners).tolist()
        left, up, right, down = (
            max(0, int(x0)),
            max(0, int(y0)),
            min(width, int(x1) + 1),
            min(height, int(y1) + 1),
        )
        if right <= left or down <= up:
            return
        if (x1 - x0) * (y1 - y0) < _SPECK_PX or x1 - x0 < 3:
            self.fill(quad, self.light.seen(texture.mean, gain, distance_m), class_id)
            return
        wide_px = math.hypot(*(corners[1] - corners[0])) / max(1e-3, (last - first) * repeat)
        color, alpha = texture.at(wide_px, math.hypot(*(corners[2] - corners[1])))
        high, wide = color.shape[:2]
        begin, end = first * repeat * wide - 0.5, last * repeat * wide - 0.5
        source = np.array([[begin, -0.5], [end, -0.5], [end, high - 0.5], [begin, high - 0.5]], np.float32)
        target = corners - (left + 0.5, up + 0.5)
        to_roi = cv2.getPerspectiveTransform(source, target.astype(np.float32))
        size = (right - left, down - up)
        pixels = cv2.warpPerspective(
            color, to_roi, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        pixels = cv2.LUT(pixels, self.light.table(gain, distance_m))
        image, label = self.image[up:down, left:right], self.label[up:down, left:right]
        if alpha is None or whole:
            inside = np.zeros(size[::-1], np.uint8)
            fixed = (target * ONE).clip(-_FAR, _FAR).round().astype(np.int32)
            cv2.fillConvexPoly(inside, fixed, 1, cv2.LINE_8, SHIFT)
        if alpha is None:
            cv2.copyTo(pixels, inside, image)
        else:
            cover = cv2.warpPerspective(alpha, to_roi, size, flags=cv2.INTER_LINEAR)
            weight = np.multiply(cover, np.float32(1 / 255), dtype=np.float32)
            cv2.blendLinear(pixels, image, weight, 1 - weight, image)
            if not whole:
                inside = np.asarray(cv2.threshold(cover, texture.solid_from - 1, 1, cv2.THRESH_BINARY)[1])
        np.copyto(label, np.uint8(class_id), where=inside.view(np.bool_))


def _near_span(view: Points) -> tuple[float, float] | None:
    """Return which part (from, to) of a rectangle's width is beyond the near plane, or None."""
    begin = float(min(view[0, 2], view[3, 2]))
    end = float(min(view[1, 2], view[2, 2]))
    if max(begin, end) < NEAR_M:
        return None
    cut = (NEAR_M - begin) / (end - begin) if (begin < NEAR_M) != (end < NEAR_M) else 0.0
    if begin < NEAR_M:
        return cut, 1.0
    return 0.0, cut if end < NEAR_M else 1.0
