"""The live view for Foxglove, read by a few lines of WebSocket that share no code with the SDK's server."""

import base64
import contextlib
import dataclasses
import json
import os
import socket
import struct
import sys
import time

import cv2
import numpy as np
import pytest

from runtime.errors import ConfigError, OutputError
from runtime.ground import CameraModel
from runtime.ground.drawing import GroundSight
from runtime.ground.options import GridOptions
from runtime.outputs.foxglove import Foxglove
from runtime.outputs.options import OutputOptions

WAIT_S = 20.0


class Viewer:
    """Subscribes to every channel."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ["GET / HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Protocol: foxglove.sdk.v1", "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.exactly(1)
        self.topics, self.pictures = {}, {}

    def exactly(self, size):
        data = b""
        while len(data) < size:
            data += self.socket.recv(size - len(data)) or pytest.fail("the server hung up")
        return data

    def read(self):
        """One frame: note channels, subscribe to them, keep the messages' bytes."""
        kind, size = self.exactly(2)
        size = struct.unpack(">H", self.exactly(2))[0] if size == 126 else size
        size = struct.unpack(">Q", self.exactly(8))[0] if size == 127 else size
        data = self.exactly(size)
        if kind & 15 == 1 and json.loads(data)["op"] == "advertise":
            found = {channel["id"]: channel["topic"] for channel in json.loads(data)["channels"]}
            self.topics |= found
            self.send({"op": "subscribe", "subscriptions": [{"id": n, "channelId": n} for n in found]})
        elif kind & 15 == 2 and data[0] == 1:
            self.pictures[self.topics[struct.unpack_from("<I", data, 1)[0]]] = data[13:]

    def send(self, message):
        data = json.dumps(message).encode()
        masked = bytes([0x81, 0x80 | 126]) + struct.pack(">H", len(data)) + bytes(4)
        self.socket.sendall(masked + data)


def test_a_viewer_gets_overlay_mask_and_ground(stream, step):
    pytest.importorskip("foxglove")
    taken = step()
    mask = taken.segmentation.mask
    height, width = mask.shape
    camera = CameraModel(width, height, 40.0, 40.0, width / 2, height / 2, height_m=1.0, pitch_rad=0.3)
    ground = GroundSight(camera, {0}, GridOptions((0.0, 4.0), (-2.0, 2.0)))
    with Foxglove(0) as output, contextlib.ExitStack() as closing:
        output.open(dataclasses.replace(stream, ground=ground))
        assert output.port != 0
        viewer = Viewer(output.port)
        closing.callback(viewer.socket.close)
        while len(viewer.topics) < 3:
            viewer.read()
        deadline = time.monotonic() + WAIT_S
        viewer.socket.settimeout(0.2)
        while len(viewer.pictures) < 3 and time.monotonic() < deadline:
            output.take(taken)
            try:
                viewer.read()
            except TimeoutError:
                continue
        with pytest.raises(OutputError, match="cannot listen there"):
            Foxglove(output.port).open(stream)
    assert mask.tobytes() in viewer.pictures["/segmentation/mask"]
    jpeg = viewer.pictures["/segmentation/overlay"]
    shown = cv2.imdecode(np.frombuffer(jpeg[jpeg.index(b"\xff\xd8") :], np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (height, width, 3)
    cells = ground.view(mask).warp(mask)
    colors = stream.overlay.colors(cells)
    assert sum(
        bytes(color) in viewer.pictures["/segmentation/ground"]
        for color in np.unique(colors[cells != 255], axis=0)
    )


def test_nothing_is_made_that_nobody_looks_at(stream, step, monkeypatch):
    pytest.importorskip("foxglove")
    monkeypatch.setattr(cv2, "imencode", lambda *_: pytest.fail("encoded for nobody"))
    with Foxglove(0) as output:
        output.open(stream)
        output.take(step())


def test_without_its_package_one_line_says_what_to_install(stream, monkeypatch):
    monkeypatch.setitem(sys.modules, "foxglove", None)
    with pytest.raises(ConfigError, match=r"pip install 'edgeseg\[foxglove\]'"):
        Foxglove().open(stream)


def test_its_flag_makes_it():
    made = OutputOptions(headless=True, foxglove=8765).make()
    assert [type(output) for output in made] == [Foxglove]
