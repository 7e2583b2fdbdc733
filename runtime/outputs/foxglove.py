"""A live view in Foxglove: `--foxglove 8765`, then "Open connection" to ws://localhost:8765."""

from __future__ import annotations

import importlib
import time
from typing import Any

import cv2
import numpy as np

from runtime.errors import ConfigError, OutputError
from runtime.frame import Image
from runtime.ground.birds_eye import UNKNOWN, VOID
from runtime.ground.drawing import GroundSight
from runtime.loop import Step
from runtime.outputs.output import Output, Stream

_HOST = "127.0.0.1"
_CAMERA, _GROUND = "camera", "ground"
_BACKLOG = 8  # messages that a slow viewer may be behind
_FAINT = 50  # alpha of cells of which nothing is known


class Foxglove(Output):
    """Serves overlay and mask, and with a camera over the ground its cells in the colours of their classes.

    Listens on this machine only; from another one come through `ssh -L 8765:127.0.0.1:8765`. Foxglove's
    protocol knows no token, so every program and every open web page on this machine can read it. Nothing is
    made that nobody looks at, and a viewer that is too slow loses messages.
    """

    kind = "foxglove"

    def __init__(self, port: int = 8765) -> None:
        """Choose the port; 0 lets the system choose."""
        self.port = port
        self._server: Any = None

    @property
    def name(self) -> str:
        """Where it listens."""
        return f"Foxglove on ws://{_HOST}:{self.port}"

    def open(self, stream: Stream) -> None:
        """Start to listen.

        Raises:
            ConfigError: the extra `foxglove` is not installed.
            OutputError: a port that cannot be listened on.
        """
        sdk, channels, self._make = (_load(name) for name in ("", ".channels", ".messages"))
        context = self._context = sdk.Context()  # held, since channels do not hold it
        self._overlay = channels.CompressedImageChannel("/segmentation/overlay", context=context)
        self._mask = channels.RawImageChannel("/segmentation/mask", context=context)
        self._cells = channels.GridChannel("/segmentation/ground", context=context)
        self._ground, self._colors = stream.ground, stream.overlay.colors
        self._wall_minus_monotonic_ns = time.time_ns() - time.monotonic_ns()
        try:
            self._server = sdk.start_server(
                name="edgeseg", host=_HOST, port=self.port, context=context, message_backlog_size=_BACKLOG
            )
        except Exception as error:  # the package's own kind
            raise OutputError(f"{self.name}: cannot listen there ({error}); choose another port") from None
        self.port = int(self._server.port)

    def take(self, step: Step) -> None:
        """Send what somebody looks at."""
        make, mask = self._make, step.segmentation.mask
        stamp_ns = step.frame.stamp_ns or step.frame.captured_ns + self._wall_minus_monotonic_ns
        about = {"timestamp": make.Timestamp(*divmod(stamp_ns, 1_000_000_000))}
        of_camera = {**about, "frame_id": _CAMERA}
        if self._overlay.has_sinks():
            _, jpeg = cv2.imencode(".jpg", step.overlay_bgr)
            self._overlay.log(make.CompressedImage(**of_camera, data=jpeg.tobytes(), format="jpeg"))
        if self._mask.has_sinks():
            height, width = mask.shape
            self._mask.log(
                make.RawImage(
                    **of_camera, width=width, height=height, encoding="mono8", step=width, data=mask.tobytes()
                )
            )
        if self._ground is not None and self._cells.has_sinks():
            self._cells.log(self._grid(self._ground, mask, {**about, "frame_id": _GROUND}))

    def close(self) -> None:
        """Stop listening."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def _grid(self, ground: GroundSight, mask: Image, about: dict[str, Any]) -> Any:
        """Return the cells in the colours of their classes, faint where nothing is known."""
        view, cells = ground.view(mask), ground.occupancy(mask)
        seen = view.warp(mask)
        alpha = np.where(cells == UNKNOWN, _FAINT, 255).astype(np.uint8)
        alpha[(cells == UNKNOWN) & (seen == VOID)] = 0
        cells_bgra = np.dstack([self._colors(seen), alpha])  # (rows, columns, 4)
        make = self._make
        kind = make.PackedElementFieldNumericType.Uint8
        fields = [
            make.PackedElementField(name=name, offset=place, type=kind)
            for place, name in enumerate(("blue", "green", "red", "alpha"))
        ]
        corner = make.Vector3(x=view.x_range_m[0], y=view.y_range_m[0], z=0.0)
        return make.Grid(
            **about,
            pose=make.Pose(position=corner, orientation=make.Quaternion(x=0.0, y=0.0, z=0.0, w=1.0)),
            column_count=view.shape[1],
            cell_size=make.Vector2(x=view.cell_m, y=view.cell_m),
            row_stride=4 * view.shape[1],
            cell_stride=4,
            fields=fields,
            data=cells_bgra.tobytes(),
        )


def _load(module: str) -> Any:
    """Import a module of the extra.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(f"foxglove{module}")
    except ImportError as error:
        raise ConfigError(
            f"foxglove: expected the package foxglove-sdk, which cannot be imported ({error}); pip install "
            "'edgeseg[foxglove]'"
        ) from None
