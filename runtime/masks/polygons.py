"""Masks as polygons: the outlines of every class, with their holes."""

from __future__ import annotations

import cv2
import numpy as np

from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.masks.areas import check_mask, label_areas

Ring = list[list[int]]  # corners [x, y] in pixels; the last joins the first
Polygon = list[Ring]  # its outline, then its holes

_SMALLEST_RING = 3


def mask_polygons(
    mask: Image, epsilon_px: float = 1.0, min_area_px: float = 16.0
) -> dict[int, list[Polygon]]:
    """Return the outlines of every class that is present, in the nesting of GeoJSON's MultiPolygon.

    Corners lie on the centres of border pixels, so a polygon drawn with `cv2.fillPoly` covers its pixels.
    Outlines are traced after Suzuki and Abe (1985, `cv2.findContours`) and thinned after Douglas and
    Peucker (1973, `cv2.approxPolyDP`).

    Args:
        mask: uint8 (H, W) class indices.
        epsilon_px: how far a thinned outline may lie from the true one, in pixels; 0 keeps every corner.
        min_area_px: outlines and holes that cover less are left out.

    Returns:
        Class index → polygons, each a list of rings: the outline, then its holes. A class of which every
        part is too small is not there.

    Raises:
        FrameError: a mask that is not uint8 (H, W).
        ConfigError: a negative epsilon or area.

    >>> mask = np.zeros((6, 8), np.uint8)
    >>> mask[1:5, 2:7] = 3
    >>> mask_polygons(mask, min_area_px=4)[3]
    [[[[2, 1], [2, 4], [6, 4], [6, 1]]]]
    """
    check_mask(mask)
    if not (epsilon_px >= 0 and min_area_px >= 0):
        raise ConfigError(
            f"polygons: expected an epsilon and an area of at least 0, got {epsilon_px} and {min_area_px}"
        )
    result = {}
    for label in np.flatnonzero(label_areas(mask)).tolist():
        polygons = _polygons((mask == label).view(np.uint8), epsilon_px, min_area_px)
        if polygons:
            result[label] = polygons
    return result


def _polygons(binary: Image, epsilon_px: float, min_area_px: float) -> list[Polygon]:
    """Trace one class, given as uint8 (H, W) of 0 and 1."""
    contours, hierarchy = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    polygons: dict[int, Polygon] = {}
    # Two levels: outlines have no parent, holes have their outline, which may come after them.
    order = sorted(range(len(contours)), key=lambda index: int(hierarchy[0][index][3]) >= 0)
    for index in order:
        ring = _thinned(contours[index], epsilon_px, min_area_px)
        parent = int(hierarchy[0][index][3])
        if ring is None:
            continue
        if parent < 0:
            polygons[index] = [ring]
        elif parent in polygons:
            polygons[parent].append(ring)
    return list(polygons.values())


def _thinned(contour: cv2.typing.MatLike, epsilon_px: float, min_area_px: float) -> Ring | None:
    """Return the corners that matter; None where too little is left."""
    if cv2.contourArea(contour) < min_area_px:
        return None
    thin = cv2.approxPolyDP(contour, epsilon_px, closed=True)
    corners: Ring = np.asarray(thin, np.int32).reshape(-1, 2).tolist()
    return corners if len(corners) >= _SMALLEST_RING else None
