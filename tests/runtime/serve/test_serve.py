from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import http.client
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from runtime.errors import ConfigError, OutputError
from runtime.frame import Frame, Segmentation
from runtime.ground import CameraModel
from runtime.ground.drawing import GroundSight
from runtime.ground.options import GridOptions
from runtime.loop import Step
from runtime.masks.formats import decode_palette_png
from runtime.outputs import Page, Stream
from runtime.outputs.output import Output
from runtime.serve import board, handler, server, viewfinder
from runtime.serve.address import Address, Guard
from runtime.serve.gauges import Gauges
from runtime.serve.metrics import metrics_text
from runtime.sources import Source
from runtime.sources.source import SourceState, SourceStatus

LOOPBACK = Address("127.0.0.1", 0)
TOKEN = "a-token-of-the-tests"
WAIT_S = 20.0


class QuietSource(Source):
    """Gives nothing; says what it is told to say."""

    fps, live, dropped = 10.0, True, 0
    state = SourceState.RUNNING
    problem: str | None = None

    @property
    def status(self) -> SourceStatus:
        return SourceStatus(self.state, reconnects=2, problem=self.problem)

    def __iter__(self) -> Iterator[Frame]:
        return iter(())

    def close(self) -> None: ...


def step(index: int = 0, size_hw: tuple[int, int] = (48, 64), level: int = 50) -> Step:
    mask = np.full(size_hw, index % 3, np.uint8)
    frame = Frame(np.full((*size_hw, 3), level, np.uint8), index, time.monotonic_ns())
    segmentation = Segmentation(mask, {"network": 3.0}, index, frame.captured_ns)
    return Step(frame, segmentation, {"network": 3.0, "total": 8.0}, time.monotonic_ns(), dropped=4)


@pytest.fixture
def open_page(tiny: ModuleType) -> Iterator[Callable[..., Page]]:
    """Open pages that are closed at the end."""
    pages: list[Page] = []

    def open_one(
        address: Address = LOOPBACK,
        token: str | None = None,
        name: str = "",
        alpha: float = 0.5,
        **more: object,
    ) -> Page:
        page = Page(address, token=token)
        page.open(Stream(tiny.tiny_contract(), QuietSource(), name, alpha, **more))
        pages.append(page)
        return page

    yield open_one
    for page in pages:
        page.close()


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


def get(
    page: Page, path: str, headers: dict[str, str] | None = None
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", page.address.port, timeout=WAIT_S)
    connection.request("GET", path, headers=headers or {})
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    return reply.status, body, reply.msg


def image_of(body: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)


def test_the_page_needs_nothing_else(page):
    status, body, headers = get(page, "/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    text = body.decode()
    assert "{{" not in text
    assert 'value="0.5"' in text
    assert "https://" not in text


@pytest.mark.parametrize("path", ["/frame.jpg", "/mask.png", "/healthz"])
def test_before_the_first_frame(page, path):
    assert get(page, path)[0] == 503


@pytest.mark.parametrize(
    ("query", "level"),
    [
        ("view=raw", [50, 50, 50]),
        ("view=mask", [0, 255, 0]),
        ("view=overlay&alpha=0.5", [25, 152, 25]),
        ("view=overlay&alpha=0", [50, 50, 50]),
        ("", [25, 152, 25]),
    ],
)
def test_frame_shows_the_view(page, query, level):
    page.take(step(1))
    status, body, headers = get(page, f"/frame.jpg?{query}")
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, "image/jpeg", "no-store")
    assert image_of(body).shape == (48, 64, 3)
    assert image_of(body)[20, 20].tolist() == pytest.approx(level, abs=5)


def test_frame_of_another_width(page):
    page.take(step(1))
    assert image_of(get(page, "/frame.jpg?width=32")[1]).shape == (24, 32, 3)
    assert image_of(get(page, "/frame.jpg?width=640")[1]).shape == (48, 64, 3)


@pytest.mark.parametrize(
    "query", ["view=what", "alpha=2", "alpha=nan", "alpha=x", "width=1e9", "width=3", "width=-20"]
)
def test_wrong_queries(page, query):
    page.take(step(1))
    status, body, _ = get(page, f"/frame.jpg?{query}")
    assert status == 400
    assert b"expected" in body


def test_mask_is_the_class_indices(page):
    page.take(step(2))
    status, body, headers = get(page, "/mask.png")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert np.array_equal(decode_palette_png(body), np.full((48, 64), 2))


def test_the_ground_from_above(open_page):
    camera = CameraModel(64, 48, 40.0, 40.0, 31.5, 23.5, height_m=1.0, pitch_rad=0.3)
    ground = GroundSight(camera, {1}, GridOptions((0.0, 4.0), (-2.0, 2.0)), draws_grid=True)
    page = open_page(ground=ground)
    assert get(page, "/ground.png")[0] == 503
    page.take(step(1))
    status, body, headers = get(page, "/ground.png?height=212")
    assert (status, headers["Content-Type"], headers["X-Frame-Id"]) == (200, "image/png", "1")
    above = image_of(body)
    assert above.shape == (212, 200, 3)
    assert (above == (0, 255, 0)).all(axis=2).sum() > 1000  # free ground, in the colour of its class
    assert json.loads(get(page, "/stats.json")[1])["sees_ground"] is True
    for height in ("1", "1e5", "x"):
        assert get(page, f"/ground.png?height={height}")[0] == 400


def test_without_a_camera_there_is_no_ground(page):
    page.take(step())
    status, body, _ = get(page, "/ground.png")
    assert status == 400
    assert b"--camera" in body
    assert json.loads(get(page, "/stats.json")[1])["sees_ground"] is False


def test_lines_of_metres_are_on_the_page_too(open_page):
    camera = CameraModel(64, 48, 40.0, 40.0, 31.5, 23.5, height_m=1.0, pitch_rad=0.3)
    pictures = []
    for draws_grid in (False, True):
        ground = GroundSight(camera, {1}, GridOptions((0.0, 4.0), (-2.0, 2.0)), draws_grid=draws_grid)
        page = open_page(ground=ground)
        page.take(step(1))
        pictures.append([image_of(get(page, f"/frame.jpg?view={view}")[1]) for view in ("overlay", "mask")])
    assert not np.array_equal(pictures[0][0], pictures[1][0])
    assert np.array_equal(pictures[0][1], pictures[1][1])


def test_stats(open_page):
    page = open_page(name="rtsp://***@cam/live")
    page.take(step(6))
    page.take(step(7))
    stats = json.loads(get(page, "/stats.json")[1])
    assert (stats["state"], stats["frames"], stats["frame_id"], stats["dropped"]) == ("running", 2, 7, 4)
    assert (stats["source"], stats["model"], stats["size_hw"]) == ("rtsp://***@cam/live", "tiny", [48, 64])
    assert (stats["age_ms"], stats["latency_ms"]["network"]) == (8.0, 3.0)
    assert stats["classes"][1] == {"name": "green", "rgb": [0, 255, 0], "share": 1.0}
    assert max(stats["history"]["age_ms"]) == 8.0


def test_unknown_path_names_those_that_are_known(page):
    status, body, _ = get(page, "/../etc/passwd")
    assert status == 404
    assert b"/stats.json" in body


def test_other_methods_are_refused(page):
    connection = http.client.HTTPConnection("127.0.0.1", page.address.port, timeout=WAIT_S)
    connection.request("POST", "/")
    assert connection.getresponse().status == 405
    connection.close()


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> int:
        return round(self.now_s * 1e9)


def test_gauges_over_time(tiny):
    clock, source = Clock(), QuietSource()
    gauges = Gauges(tiny.tiny_contract(), source, now_ns=clock)
    assert (gauges.state, gauges.is_healthy) == ("opening", False)
    for index in range(4000):
        clock.now_s += 0.05
        gauges.put(step(index))
    stats = gauges.stats()
    assert stats["fps"] == pytest.approx(20)
    assert len(stats["history"]["ago_s"]) == 240
    assert stats["history"]["ago_s"][0] == pytest.approx(-60, abs=0.3)
    assert stats["history"]["fps"][-1] == pytest.approx(20)
    assert (gauges.state, gauges.is_healthy) == ("running", True)
    clock.now_s += 3.1
    assert (gauges.state, gauges.is_healthy, gauges.stats()["fps"]) == ("stalled", False, 0.0)
    source.state, source.problem = SourceState.RECONNECTING, "cable"
    assert (gauges.state, gauges.stats()["problem"]) == ("reconnecting", "cable")


def test_metrics_follow_the_text_format(tiny):
    gauges = Gauges(tiny.tiny_contract(), QuietSource())
    assert "edgeseg_age_seconds" not in metrics_text(gauges, 0)
    gauges.put(step(0))
    gauges.put(step(1))
    text = metrics_text(gauges, viewers=3)
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert samples["edgeseg_frames_total"] == "2"
    assert samples["edgeseg_dropped_frames_total"] == "4"
    assert samples["edgeseg_viewers"] == "3"
    assert samples['edgeseg_source_state{state="running"}'] == "1"
    assert samples['edgeseg_source_state{state="failed"}'] == "0"
    assert samples['edgeseg_stage_seconds_total{stage="network"}'] == "0.006"
    assert samples['edgeseg_class_share{class="green"}'] == "1"
    named = {line.split("{")[0].split(" ")[0] for line in samples}
    assert {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} == named


def test_the_setting_of_a_run_with_a_target_is_told(tiny):
    gauges, plain = Gauges(tiny.tiny_contract(), QuietSource()), step(0)
    gauges.put(plain)
    assert gauges.stats()["setting"] == ""
    assert "edgeseg_setting" not in metrics_text(gauges, 0)
    made = dataclasses.replace(plain.segmentation, setting="n 32x48, 1 thread")
    gauges.put(dataclasses.replace(plain, segmentation=made))
    assert gauges.stats()["setting"] == "n 32x48, 1 thread"
    assert 'edgeseg_setting{setting="n 32x48, 1 thread"} 1\n' in metrics_text(gauges, 0)


def test_metrics_and_health_are_served(page):
    page.take(step(1))
    status, body, headers = get(page, "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"edgeseg_frames_total 1\n" in body
    assert get(page, "/healthz")[:2] == (200, b"ok\n")


class Watcher:
    """A client of the stream."""

    def __init__(self, page: Page, query: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", page.address.port), timeout=WAIT_S)
        self.socket.sendall(f"GET /stream.mjpg?{query} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        self.file = self.socket.makefile("rb")
        assert b"200" in self.file.readline()
        while self.file.readline().strip():
            pass

    def picture(self) -> np.ndarray:
        length = 0
        while True:
            line = self.file.readline()
            assert line, "the stream ended"
            if line.startswith(b"Content-Length: "):
                length = int(line.split()[1])
            elif length and not line.strip():
                return image_of(self.file.read(length))

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def viewers(page: Page) -> int:
    return json.loads(get(page, "/stats.json")[1])["viewers"]


def test_stream_shows_one_frame_after_the_other(page):
    page.take(step(1, level=10))
    watcher = Watcher(page, "view=raw")
    assert watcher.picture().mean() == pytest.approx(10, abs=2)
    page.take(step(2, level=200))
    assert watcher.picture().mean() == pytest.approx(200, abs=2)
    assert viewers(page) == 1
    watcher.close()


def test_a_vanished_viewer_is_forgotten(page):
    page.take(step(1))
    watcher = Watcher(page)
    watcher.picture()
    watcher.close()

    def gone() -> bool:
        page.take(step(2))
        return viewers(page) == 0

    wait_until(gone)


@pytest.fixture
def noisy() -> list[Step]:
    """Steps whose pictures no encoder makes small."""
    rng = np.random.default_rng(0)
    steps = [step(index, (480, 640)) for index in range(3)]
    for taken in steps:
        taken.frame.image_bgr[:] = rng.integers(0, 255, taken.frame.image_bgr.shape)
    return steps


def test_a_viewer_that_does_not_read_holds_up_nobody(page, monkeypatch, noisy):
    monkeypatch.setattr(handler, "SEND_S", 10 * WAIT_S)  # so that nothing rescues the loop
    page.take(noisy[0])
    asleep = Watcher(page, "view=raw")
    fed = threading.Event()

    def loop() -> None:  # what the camera's thread does
        for index in range(3000):
            page.take(noisy[index % 3])
            time.sleep(0.0003)
        fed.set()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    awake = Watcher(page, "view=mask&fps=30")
    for _ in range(5):
        awake.picture()
    awake.close()
    assert fed.wait(WAIT_S)
    asleep.close()


def test_a_viewer_that_does_not_read_is_dropped(page, monkeypatch, noisy):
    monkeypatch.setattr(handler, "SEND_S", 0.5)
    page.take(noisy[0])
    asleep = Watcher(page, "view=raw")

    def is_dropped() -> bool:
        page.take(noisy[0])
        return viewers(page) == 0

    wait_until(is_dropped)
    asleep.close()


def test_nothing_is_encoded_while_nobody_watches(page, monkeypatch):
    encoded: list[str] = []
    real = viewfinder.cv2.imencode

    def count(*arguments: object) -> object:
        encoded.append("jpeg")
        return real(*arguments)

    monkeypatch.setattr(viewfinder.cv2, "imencode", count)
    for index in range(20):
        page.take(step(index))
    assert encoded == []
    for _ in range(3):
        get(page, "/frame.jpg?alpha=0.5")
        get(page, "/frame.jpg?alpha=0.51")  # near enough to share
    assert encoded == ["jpeg"]


@pytest.mark.parametrize(("most", "of_peer"), [(2, 12), (2, 2)])
def test_viewers_beyond_the_bound_are_turned_away_from_pictures_only(page, monkeypatch, most, of_peer):
    monkeypatch.setattr(board, "MAX_VIEWERS", most)
    monkeypatch.setattr(board, "MAX_VIEWERS_OF_PEER", of_peer)
    page.take(step(1))
    watchers = [Watcher(page), Watcher(page)]
    for path in ("/stream.mjpg", "/frame.jpg", "/mask.png"):
        status, body, headers = get(page, path)
        assert (status, body, headers["Retry-After"]) == (503, b"too many viewers\n", "5")
    for path in ("/", "/stats.json", "/metrics", "/healthz"):
        assert get(page, path)[0] == 200
    for watcher in watchers:
        watcher.close()

    def has_room() -> bool:
        page.take(step(1))
        return get(page, "/frame.jpg")[0] == 200

    wait_until(has_room)


def test_one_peer_cannot_take_all_places(page):
    places = page._server
    with contextlib.ExitStack() as taken:
        mine = [taken.enter_context(places.viewing("10.0.0.1")) for _ in range(20)]
        assert sum(mine) == board.MAX_VIEWERS_OF_PEER
        assert taken.enter_context(places.viewing("10.0.0.2"))
        loopback = [taken.enter_context(places.viewing("127.0.0.1")) for _ in range(20)]
        assert sum(loopback) == board.MAX_VIEWERS - board.MAX_VIEWERS_OF_PEER - 1
    assert not places._viewers


class PausingOutput(Output):
    """One that can pause, or cannot."""

    kind = "save"

    def __init__(self, can_pause: bool = True) -> None:
        self.told = can_pause

    @property
    def can_pause(self) -> bool:
        return self.told

    def pause(self, paused: bool = True) -> None:
        self.is_paused = paused

    def take(self, step: Step) -> None: ...

    def close(self) -> None: ...


def post(page: Page, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", page.address.port, timeout=WAIT_S)
    connection.request("POST", path, headers=headers)
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    return reply.status, body


def test_an_output_is_paused_and_resumed(open_page):
    outputs = PausingOutput(can_pause=False), PausingOutput()
    page = open_page(outputs=outputs)
    for action, paused in (("pause", True), ("resume", False)):
        status, body = post(page, f"/outputs/1/{action}", {"X-Edgeseg": "1"})
        assert (status, outputs[1].is_paused) == (200, paused)
        assert json.loads(body)["outputs"][1]["is_paused"] is paused


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/outputs/1/pause", {}, 403),  # a form of another site can send this
        ("/outputs/1/pause", {"X-Edgeseg": "1", "Origin": "http://evil.example"}, 403),
        ("/outputs/1/pause", {"X-Edgeseg": "1", "Origin": "null"}, 403),
        ("/outputs/1/pause", {"X-Edgeseg": "1", "Host": "evil.example"}, 403),
        ("/outputs/0/pause", {"X-Edgeseg": "1"}, 404),
        ("/outputs/7/pause", {"X-Edgeseg": "1"}, 404),
        ("/outputs/-1/pause", {"X-Edgeseg": "1"}, 405),
        ("/outputs/1/delete", {"X-Edgeseg": "1"}, 405),
        ("/outputs/1/pause/", {"X-Edgeseg": "1"}, 405),
        ("/outputs/99999/pause", {"X-Edgeseg": "1"}, 405),
        ("/", {"X-Edgeseg": "1"}, 405),
    ],
)
def test_nobody_else_pauses_an_output(open_page, path, headers, status):
    outputs = PausingOutput(can_pause=False), PausingOutput()
    assert post(open_page(outputs=outputs), path, headers)[0] == status
    assert not outputs[1].is_paused


def test_without_the_token_nothing_is_paused(open_page):
    output = PausingOutput()
    page = open_page(token=TOKEN, outputs=(output,))
    assert post(page, "/outputs/0/pause", {"X-Edgeseg": "1"})[0] == 401
    assert not output.is_paused
    assert post(page, "/outputs/0/pause", {"X-Edgeseg": "1", "Authorization": f"Bearer {TOKEN}"})[0] == 200
    assert output.is_paused


def test_classes_can_be_hidden(page):
    page.take(step(1))  # all green
    assert image_of(get(page, "/frame.jpg?alpha=1")[1])[20, 20].tolist() == pytest.approx([0, 255, 0], abs=5)
    hidden = image_of(get(page, "/frame.jpg?alpha=1&hide=0,1")[1])
    assert hidden[20, 20].tolist() == pytest.approx([50, 50, 50], abs=5)
    assert image_of(get(page, "/frame.jpg?view=mask&hide=1")[1]).max() < 6
    others = image_of(get(page, "/frame.jpg?view=mask&hide=0,2")[1])
    assert others[20, 20].tolist() == pytest.approx([0, 255, 0], abs=5)


@pytest.mark.parametrize("hide", ["x", "-1", "256", "1,", ",", "1;2", "1" * 5000, "0,0,999"])
def test_classes_that_cannot_be_hidden(page, hide):
    page.take(step(1))
    assert get(page, f"/frame.jpg?hide={hide}")[0] == 400


def test_a_stream_shows_no_old_picture_as_a_current_one(open_page):
    page = open_page(max_age_ms=300.0)
    page.take(step(1, level=200))
    watcher = Watcher(page, "view=mask")
    assert watcher.picture()[20, 20].tolist() == pytest.approx([0, 255, 0], abs=5)
    old = watcher.picture()  # nothing new came for longer than the limit
    assert np.ptp(old.astype(int), axis=2).max() <= 3  # grey
    assert old[40, 40].max() < 100
    page.take(step(2))
    assert watcher.picture()[20, 20].tolist() == pytest.approx([0, 0, 255], abs=5)
    watcher.close()


def test_stats_tell_how_old_the_picture_is_and_from_when_on_it_is_old(open_page):
    page = open_page(max_age_ms=300.0)
    before = json.loads(get(page, "/stats.json")[1])
    assert (before["picture_age_ms"], before["old_ms"]) == (None, 300.0)
    taken = step(1)
    page.take(taken)
    stats = json.loads(get(page, "/stats.json")[1])
    assert 0 <= stats["picture_age_ms"] <= (time.monotonic_ns() - taken.frame.captured_ns) / 1e6
    assert json.loads(get(open_page(), "/stats.json")[1])["old_ms"] == 2000.0


def test_stats_tell_what_the_network_says_of_itself(page):
    facts = json.loads(get(page, "/stats.json")[1])["model_facts"]
    assert (facts["name"], facts["classes"], facts["weights"], facts["accuracy"]) == ("tiny", 3, "none", None)
    assert len(facts["input_hw"]) == 2


def raw(page: Page, request: bytes) -> bytes:
    """The whole answer to some bytes."""
    with socket.create_connection(("127.0.0.1", page.address.port), timeout=WAIT_S) as connection:
        connection.sendall(request)
        got = b""
        while data := connection.recv(1 << 16):
            got += data
        return got


INJECTED = [
    "%0d%0aX-Evil:%201",
    "%0aX-Evil:%201",
    "%0d%0a%0d%0a<script>",
    "%00",
    "%e2%80%a8X-Evil: 1",
    "\x85X-Evil:1",
]


@pytest.mark.parametrize("evil", INJECTED)
@pytest.mark.parametrize("place", ["/?token={}", "/?token=a&token={}", "/{}", "/frame.jpg?view={}", "/?{}=1"])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_nothing_of_a_request_becomes_a_header(open_page, evil, place, token):
    page = open_page(token=token)
    page.take(step(1))
    request = f"GET {place.format(evil)} HTTP/1.0\r\nHost: localhost\r\n"
    if token:  # of somebody who may: a link with the evil part was given to them
        request += f"Authorization: Bearer {token}\r\nCookie: edgeseg_token={token}\r\n"
    head = raw(page, request.encode("latin-1") + b"\r\n").split(b"\r\n\r\n")[0]
    assert b"evil" not in head.lower()
    assert b"script>" not in head
    assert all(line.count(b":") or line.startswith(b"HTTP/1.0 ") for line in head.split(b"\r\n"))
    assert b"Set-Cookie" not in head


def test_a_cookie_is_found_among_strange_ones(open_page):
    page = open_page(token=TOKEN)
    for cookies in (f"a=b c; ]=[; edgeseg_token={TOKEN}", f"edgeseg_token=old; edgeseg_token={TOKEN}"):
        assert get(page, "/stats.json", {"Cookie": cookies})[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/stats.json", "/metrics", "/healthz", "/frame.jpg", "/mask.png", "/nothing", "/frame.jpg?view=x"],
)
def test_every_answer_tells_browsers_what_they_may(page, path):
    page.take(step(1))
    _, _, headers = get(page, path)
    policy = headers["Content-Security-Policy"]
    for directive in (
        "default-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ):
        assert directive in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


def test_the_policy_names_what_is_in_the_page_by_its_hash(page):
    _, body, headers = get(page, "/")
    text = body.decode()
    assert "style=" not in text
    assert not re.search(r"\son\w+=", text)
    for kind in ("script", "style"):
        (inline,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"HEAD /frame.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"HEAD /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"HEAD /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"HEAD / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 204),
        (b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 204),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"DELETE /frame.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"<script> / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        (b"GET / HTTP/9.9.9\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 403),
        (b"GET  HTTP/1.0 x y\r\n\r\n", 400),
        (b"\xff\xfe\x00\r\n\r\n", 400),
        (b"GET http://[::1 HTTP/1.0\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://localhost/stats.json HTTP/1.0\r\nHost: localhost\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\nno colon\r\n\r\n", 403),
        (b"GET http://evil.example/stats.json HTTP/1.0\r\nHost: localhost\r\n\r\n", 403),
        (b"GET /stats.json HTTP/1.0\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET /stats.json HTTP/1.0\r\nHost: [::1].evil.example\r\n\r\n", 403),
        (b"GET /stats.json HTTP/1.0\r\nHost: [::1]:8080\r\n\r\n", 200),
        (b"GET //evil.example/ HTTP/1.0\r\nHost: localhost\r\n\r\n", 404),
        (b"GET / HTTP/1.0\r\nHost: localhost\r\n" + b"X: y\r\n" * 150 + b"\r\n", 431),
        (b"GET /stats.json HTTP/1.0\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf", 200),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_requests_of_every_kind(page, caplog, request_, status):
    page.take(step(1))
    answer = raw(page, request_)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert answer.startswith(f"HTTP/1.0 {status} ".encode())
    assert b"<" not in head
    assert b"script" not in body or status == 200
    assert body == b"" or not request_.startswith((b"HEAD", b"OPTIONS"))
    assert b"Access-Control" not in head
    assert not caplog.records


@pytest.mark.parametrize("length", [10_000, 5_000_000])
def test_a_body_is_not_read_and_costs_nobody_the_answer(page, length):
    with socket.create_connection(("127.0.0.1", page.address.port), timeout=WAIT_S) as connection:
        connection.sendall(f"POST / HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"x" * length)
        if length < 100_000:
            assert connection.recv(1000).startswith(b"HTTP/1.0 405 ")
    assert get(page, "/stats.json")[0] == 200


def test_pictures_of_a_step_are_kept_up_to_a_bound(page):
    page.take(step(1))
    for width in range(16, 64):
        get(page, f"/frame.jpg?width={width}")
    assert len(page._viewfinder._drawn) == viewfinder._MOST_DRAWN


def test_a_picture_tells_which_frame_it_is_and_how_old(page):
    taken = step(7)
    page.take(taken)
    for path in ("/frame.jpg", "/mask.png"):
        before_ms = (time.monotonic_ns() - taken.frame.captured_ns) / 1e6
        _, _, headers = get(page, path)
        assert headers["X-Frame-Id"] == "7"
        assert before_ms <= float(headers["X-Age-Ms"]) + 0.1
        assert float(headers["X-Age-Ms"]) <= (time.monotonic_ns() - taken.frame.captured_ns) / 1e6


def test_close_ends_streams_and_threads(open_page):
    before = set(threading.enumerate())
    page = open_page()
    page.take(step(1))
    watchers = [Watcher(page), Watcher(page, "view=mask")]
    for watcher in watchers:
        watcher.picture()
    idle = socket.create_connection(("127.0.0.1", page.address.port), timeout=WAIT_S)
    page.close()
    page.close()
    assert all(watcher.file.read() is not None for watcher in watchers)
    wait_until(lambda: set(threading.enumerate()) <= before)
    for open_one in (*watchers, idle):
        open_one.close()


def test_a_port_that_is_taken(page, open_page):
    with pytest.raises(OutputError, match="cannot listen there"):
        open_page(page.address)


@pytest.mark.parametrize(
    "bring",
    [
        lambda: ("/stats.json", {"Authorization": f"Bearer {TOKEN}"}),
        lambda: (f"/stats.json?token={TOKEN}", {}),
        lambda: ("/stats.json", {"Cookie": f"other=1; edgeseg_token={TOKEN}"}),
    ],
    ids=["header", "query", "cookie"],
)
def test_token_opens_the_page(open_page, bring):
    path, headers = bring()
    assert get(open_page(token=TOKEN), path, headers)[0] == 200


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/stream.mjpg", {}),
        ("/frame.jpg?token=", {}),
        ("/mask.png?token=a-token-of-the-test", {}),
        ("/stats.json?token=%ff%fe", {}),
        ("/stats.json", {"Authorization": f"Basic {TOKEN}"}),
        ("/metrics", {"Authorization": f"Bearer {TOKEN}x"}),
        ("/stats.json", {"Cookie": "edgeseg_token=none"}),
        ("/stats.json", {"Cookie": "]=[;"}),
        ("/nothing", {}),
    ],
)
def test_without_the_token_nothing_opens(open_page, path, headers):
    page = open_page(token=TOKEN)
    page.take(step(1))
    status, body, _ = get(page, path, headers)
    assert status == 401
    assert TOKEN.encode() not in body


def test_the_page_moves_the_token_into_a_cookie(open_page):
    page = open_page(token=TOKEN)
    status, _, headers = get(page, f"/?token={TOKEN}")
    assert (status, headers["Location"]) == (303, "/")
    assert headers["Set-Cookie"] == f"edgeseg_token={TOKEN}; HttpOnly; SameSite=Lax; Path=/"
    assert get(page, "/", {"Cookie": headers["Set-Cookie"].split(";")[0]})[0] == 200


def test_health_needs_no_token_and_tells_no_secret(open_page):
    page = open_page(token=TOKEN)
    page.take(step(1))
    assert get(page, "/healthz")[:2] == (200, b"ok\n")


def test_the_token_is_never_logged(open_page, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    page = open_page(token=TOKEN)
    page.take(step(1))
    for path in ("/", "/stats.json", "/nothing", "/frame.jpg", "/frame.jpg?view=wrong"):
        get(page, f"{path}{'&' if '?' in path else '?'}token={TOKEN}")
    with socket.create_connection(("127.0.0.1", page.address.port), timeout=WAIT_S) as broken:
        broken.sendall(f"GET /?token={TOKEN} HTTP/9.9.9\r\n\r\n".encode())
        broken.recv(1000)
    assert TOKEN not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "192.168.0.7", "localhost.evil.example"]
)
def test_without_a_token_other_names_of_this_machine_are_refused(page, host):
    assert get(page, "/stats.json", {"Host": host})[0] == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:9", "127.0.0.1:8080", "[::1]:8080"])
def test_loopback_names_are_answered(page, host):
    assert get(page, "/stats.json", {"Host": host})[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "robot.local"])
def test_addresses_that_others_reach_need_a_token(host):
    with pytest.raises(OutputError, match="expected a token"):
        Guard(Address(host, 8080), None)
    assert Guard(Address(host, 8080), TOKEN).needs_token


@pytest.mark.parametrize("token", ["", "short", "with space and more", "ünïcödé-tökens", "x" * 200])
def test_weak_tokens(token):
    with pytest.raises(OutputError, match="12 to 128 letters") as caught:
        Guard(LOOPBACK, token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["8080", "127.0.0.1", ":8080", "127.0.0.1:", "h:70000", "h:x", "::1:8080", "h:²"]
)
def test_addresses_that_are_none(text):
    with pytest.raises(OutputError, match="expected HOST:PORT"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "shown"), [("127.0.0.1:8080", "127.0.0.1:8080"), ("[::1]:0", "[::1]:0"), ("robot:1", "robot:1")]
)
def test_addresses(text, shown):
    assert str(Address.parse(text)) == shown


def test_alpha_that_cannot_be(open_page):
    with pytest.raises(ConfigError, match="alpha from 0 to 1"):
        open_page(alpha=1.5)


def test_ipv6(open_page):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        page = open_page(Address("::1", 0))
    except OutputError:
        pytest.skip("no IPv6 loopback here")
    assert page.url.startswith("http://[::1]:")


def test_the_page_is_installed_with_the_package():
    text = (Path(server.__file__).parents[2] / "pyproject.toml").read_text()
    assert '"serve/*.html"' in text
