"""CamVid's class indices by name, as `runtime.contract.CAMVID_CLASSES` orders them."""

from __future__ import annotations

from runtime.contract import CAMVID_CLASSES

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(
    len(CAMVID_CLASSES)
)
