"""The page in a real browser: Debian's chromium and chromium-driver, steered by selenium, all on loopback."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from runtime.contract import ModelContract
from runtime.frame import Frame, Segmentation
from runtime.ground import CameraModel
from runtime.ground.drawing import GroundSight
from runtime.loop import Step
from runtime.outputs import Page, Stream
from runtime.outputs.output import Output, OutputState
from runtime.serve import handler
from runtime.serve.address import Address
from runtime.sources import Source
from runtime.sources.source import SourceState, SourceStatus
from training.streets import Drive

webdriver = pytest.importorskip("selenium.webdriver")

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

WAIT_S = 60.0
TOKEN = "a-token-of-the-tests"


@pytest.fixture
def browser(chromium: webdriver.Chrome, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """A browser without memory; what it wrote into its console is looked at in the end."""
    chromium.delete_all_cookies()
    look(chromium, 1280, 900)
    chromium.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path / "downloads")}
    )
    chromium.get_log("browser")
    yield chromium
    complaints = chromium.get_log("browser")
    chromium.get("about:blank")
    assert complaints == []


def look(browser: webdriver.Chrome, width: int, height: int, scheme: str = "light") -> None:
    """Give the page a size and a colour scheme."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


class ToldSource(Source):
    """Is in the state that it is told to be in."""

    fps, live, dropped = 30.0, True, 0
    state = SourceState.RUNNING
    problem: str | None = None

    @property
    def status(self) -> SourceStatus:
        return SourceStatus(self.state, reconnects=2, problem=self.problem)

    def __iter__(self) -> Iterator[Frame]:
        return iter(())

    def close(self) -> None: ...


class ToldOutput(Output):
    """Is in the state that it is told to be in."""

    def __init__(self, kind: str, name: str, can_pause: bool = False, **facts: int) -> None:
        self.kind, self.called, self.pausing, self.told = kind, name, can_pause, facts
        self.state = OutputState.OPEN

    @property
    def name(self) -> str:
        return self.called

    @property
    def can_pause(self) -> bool:
        return self.pausing

    def pause(self, paused: bool = True) -> None:
        self.is_paused = paused

    def facts(self) -> dict[str, int | str]:
        return dict(self.told)

    def take(self, step: Step) -> None: ...

    def close(self) -> None: ...


class Robot:
    """Feeds a page with a synthetic drive, and a mask that is a quarter blue, a quarter green, half red."""

    def __init__(
        self,
        contract: ModelContract,
        port: int = 0,
        token: str | None = None,
        outputs: tuple[Output, ...] = (),
        max_age_ms: float | None = None,
        ground: GroundSight | None = None,
    ) -> None:
        self.source = ToldSource()
        self.size_hw = (96, 128)
        self.is_noisy = False
        self.count = 0
        self.moves, self.is_over = threading.Event(), False
        self.page = Page(Address("127.0.0.1", port), token=token)
        self.page.open(
            Stream(
                contract,
                self.source,
                "rtsp://***@cam/live",
                max_age_ms=max_age_ms,
                outputs=(self.page, *outputs),
                ground=ground,
            )
        )
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        drive = Drive(0, (96, 128))
        pictures = [drive.frame(index).image_bgr for index in range(0, 60, 6)]
        noise = np.random.default_rng(0)
        while self.moves.wait() and not self.is_over:
            height, width = self.size_hw
            image_bgr = cv2.resize(pictures[self.count % len(pictures)], (width, height))
            if self.is_noisy:
                image_bgr = noise.integers(0, 256, image_bgr.shape, np.uint8)
            mask = np.full((height, width), 2, np.uint8)
            mask[:, : width // 2] = 1
            mask[:, : width // 4] = 0
            times = {"network": 3.0, "total": 8.0}
            frame = Frame(image_bgr, self.count, time.monotonic_ns())
            self.count += 1
            self.page.take(Step(frame, Segmentation(mask, times), times, time.monotonic_ns(), dropped=1234))
            time.sleep(0.03)

    def close(self) -> None:
        self.is_over = True
        self.moves.set()
        self.thread.join(WAIT_S)
        self.page.close()


@pytest.fixture
def start_robot(tiny: ModuleType) -> Iterator[Callable[..., Robot]]:
    robots: list[Robot] = []

    def start(*, moves: bool = True, **more: object) -> Robot:
        robots.append(Robot(tiny.tiny_contract(), **more))
        if moves:
            robots[-1].moves.set()
        return robots[-1]

    yield start
    for robot in robots:
        robot.close()


@pytest.fixture
def robot(start_robot: Callable[..., Robot], browser: webdriver.Chrome) -> Robot:
    """One whose page is open and shows its first picture."""
    robot = start_robot()
    browser.get(robot.page.url)
    until(lambda: picture(browser).mean() > 20)
    return robot


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def picture(browser: webdriver.Chrome, identity: str = "live") -> np.ndarray:
    """What is to be seen of an element, uint8 (H, W, 3) BGR."""
    png = browser.find_element(By.ID, identity).screenshot_as_png
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def text(browser: webdriver.Chrome, selector: str) -> str:
    return browser.find_element(By.CSS_SELECTOR, selector).text


def choose(browser: webdriver.Chrome, view: str) -> None:
    browser.find_element(By.XPATH, f"//label[input[@value='{view}']]").click()


def colors(browser: webdriver.Chrome) -> list[str]:
    """The strongest channel in the middle of each of the mask's three parts, where one is strong."""
    seen = picture(browser)
    height, width, _ = seen.shape
    names = []
    for share in (1 / 8, 3 / 8, 3 / 4):
        pixel = seen[height // 2, int(width * share)].astype(int)
        strongest = int(pixel.argmax())
        names.append("bgr"[strongest] if pixel[strongest] > 2 * np.delete(pixel, strongest).max() else "-")
    return names


def test_live_view_shows_one_picture_after_the_other(robot, browser):
    seen = {picture(browser).tobytes() for _ in range(8)}
    assert len(seen) > 1
    assert not browser.find_element(By.ID, "veil").is_displayed()


def test_overlay_mask_and_raw(robot, browser):
    choose(browser, "mask")
    until(lambda: colors(browser) == ["b", "g", "r"])
    assert not browser.find_element(By.CSS_SELECTOR, "#opacity input").is_enabled()
    choose(browser, "raw")
    until(lambda: colors(browser) == ["-", "-", "-"])
    choose(browser, "overlay")
    assert browser.find_element(By.CSS_SELECTOR, "#opacity input").is_enabled()
    browser.find_element(By.TAG_NAME, "body").send_keys("2")
    until(lambda: colors(browser) == ["b", "g", "r"])


def test_opacity_goes_from_the_picture_to_the_mask(robot, browser):
    slider = browser.find_element(By.CSS_SELECTOR, "#opacity input")
    assert text(browser, "#opacity output") == "50 %"
    slider.send_keys(Keys.END)
    assert text(browser, "#opacity output") == "100 %"
    until(lambda: colors(browser) == ["b", "g", "r"])
    slider.send_keys(Keys.HOME)
    until(lambda: colors(browser) == ["-", "-", "-"])


@pytest.mark.parametrize("view", ["overlay", "mask"])
def test_snapshot_saves_the_full_size_picture_of_the_view(robot, browser, tmp_path, view):
    robot.size_hw = (480, 640)
    choose(browser, view)
    until(lambda: text(browser, "#about").endswith("640×480"))
    browser.find_element(By.ID, "snapshot").click()
    until(lambda: len(list((tmp_path / "downloads").glob(f"edgeseg-{view}-*.jpg"))) == 1)
    (path,) = (tmp_path / "downloads").iterdir()
    assert cv2.imread(str(path)).shape == (480, 640, 3)
    assert text(browser, "#snapshot") == "Saved"


def test_numbers_classes_and_source(robot, browser):
    until(lambda: text(browser, "#state") == "running" and float(text(browser, "#fps")) > 0)
    assert text(browser, "#age").split() == ["8.0", "ms"]
    assert text(browser, "#network").split() == ["3.0", "ms"]
    assert text(browser, "#dropped").startswith("1,234 of 1,2")
    rows = [row.text.split() for row in browser.find_elements(By.CSS_SELECTOR, "#classes li")]
    assert rows == [["blue", "25.0", "%"], ["green", "25.0", "%"], ["red", "50.0", "%"]]
    chips = browser.find_elements(By.CSS_SELECTOR, "#classes .chip, #classes .bar i")
    assert {chip.value_of_css_property("background-color") for chip in chips} == {
        "rgba(0, 0, 255, 1)",
        "rgba(0, 255, 0, 1)",
        "rgba(255, 0, 0, 1)",
    }
    assert text(browser, "#about").split() == ["tiny", "·", "rtsp://***@cam/live", "·", "128×96"]
    before = text(browser, "#life")
    assert "2 reconnections" in before
    until(lambda: text(browser, "#life") != before)


def test_every_state_of_the_source_is_shown_with_its_problem(robot, browser):
    robot.source.problem = "the cable is loose"
    badges = set()
    for state in SourceState:
        robot.source.state = state
        until(lambda state=state: text(browser, "#state") == state.value)
        assert text(browser, "#problem") == ("" if state is SourceState.RUNNING else "the cable is loose")
        badges.add(browser.find_element(By.ID, "state").value_of_css_property("color"))
    assert len(badges) == 4  # at rest, well, worrying, lost


def test_a_loop_that_stands_still_is_told_and_so_is_its_return(robot, browser):
    robot.moves.clear()
    until(lambda: "no new frame for 3 s" in text(browser, "#veil"))
    assert text(browser, "#state") == "stalled"
    robot.moves.set()
    until(lambda: not browser.find_element(By.ID, "veil").is_displayed())


def test_waits_for_the_first_frame_without_complaint(start_robot, browser):
    robot = start_robot(moves=False)
    browser.get(robot.page.url)
    until(lambda: text(browser, "#state") == "opening" and text(browser, "#fps") == "0.0")
    assert text(browser, "#veil") == "waiting for the first frame"
    robot.moves.set()
    until(lambda: picture(browser).mean() > 20 and not browser.find_element(By.ID, "veil").is_displayed())


def test_a_robot_that_goes_away_and_comes_back(robot, start_robot, browser):
    robot.close()
    until(lambda: text(browser, "#state") == "unreachable")
    assert "the robot does not answer" in text(browser, "#veil")
    again = start_robot(port=robot.page.address.port)
    until(lambda: text(browser, "#state") == "running" and picture(browser).mean() > 20)
    assert again.count > 0
    browser.get_log("browser")  # here the browser has reason to complain


def test_the_view_follows_a_camera_that_changes_its_size(robot, browser):
    for size_hw in ((100, 200), (200, 100)):
        robot.size_hw = size_hw
        until(lambda size_hw=size_hw: text(browser, "#about").endswith(f"{size_hw[1]}×{size_hw[0]}"))
        until(lambda: picture(browser).mean() > 20)
        place = browser.find_element(By.ID, "live").rect
        assert place["height"] < 900  # a picture that stands upright still fits the screen
        assert size_hw[0] > size_hw[1] or place["width"] == pytest.approx(2 * place["height"], rel=0.01)


def test_plots_have_axes_and_lines_in_both_schemes(robot, browser):
    for scheme in ("light", "dark"):
        look(browser, 1280, 900, scheme)
        for plot in ("times", "rate"):

            def colours(plot: str = plot) -> int:
                return len(np.unique(picture(browser, plot).reshape(-1, 3), axis=0))

            until(lambda colours=colours: colours() > 20)
        ground = picture(browser, "times")[2, 2].mean()
        assert (ground > 200) == (scheme == "light")


def recording() -> ToldOutput:
    facts = {"files": 12, "removed": 3, "free_bytes": 12_300_000_000, "dropped": 0, "stored_ms_ago": 100}
    return ToldOutput("save", "/data/front.mp4", True, **facts)


def test_a_recording_is_stopped_and_started_with_the_space_in_sight(start_robot, browser):
    output = recording()
    robot = start_robot(outputs=(output, ToldOutput("jsonl", "/data/masks.jsonl")))
    browser.get(robot.page.url)
    until(lambda: "12.3 GB left" in text(browser, "#outputs"))
    row, lines = browser.find_elements(By.CSS_SELECTOR, "#outputs li")
    assert row.text.split("\n")[0] == "Recording"
    for part in ("written now", "12 files", "3 removed", "front.mp4"):
        assert part in row.text
    button = row.find_element(By.TAG_NAME, "button")
    assert not lines.find_element(By.TAG_NAME, "button").is_displayed()
    assert len(browser.find_elements(By.CSS_SELECTOR, "#outputs li")) == 2  # not the page itself
    for action, paused, said in (("Stop", True, "stopped"), ("Start", False, "written now")):
        until(lambda action=action: button.text == action)
        button.click()
        until(lambda paused=paused: output.is_paused is paused)
        until(lambda said=said: said in row.text)
    until(lambda: "/data/front.mp4: resumed" in text(browser, "#events"))


def test_an_output_that_fails_is_told_with_its_reason_and_in_the_events(start_robot, browser):
    output = recording()
    robot = start_robot(outputs=(output,))
    browser.get(robot.page.url)
    until(lambda: "Recording" in text(browser, "#outputs"))
    assert text(browser, "#no-events") == "Nothing happened"
    output.problem, output.failures, output.missed = "front.mp4: the disk is full <b>", 2, 40
    output.state = OutputState.RETRYING
    until(lambda: "retrying" in text(browser, "#outputs"))
    assert "40 missed" in text(browser, "#outputs")
    assert "front.mp4: the disk is full <b>" in text(browser, "#outputs")
    until(lambda: "front.mp4: the disk is full <b>" in text(browser, "#events"))
    assert not browser.find_element(By.ID, "no-events").is_displayed()


def test_a_page_without_other_outputs_has_no_list_of_them(robot, browser):
    assert not browser.find_element(By.ID, "outputs-card").is_displayed()


def test_the_picture_is_held_and_goes_on(robot, browser):
    button = browser.find_element(By.ID, "pause")
    button.click()
    until(lambda: text(browser, "#age-of-picture").startswith("paused, "))
    held = browser.find_element(By.ID, "live").get_attribute("src")
    until(lambda: "2." in text(browser, "#age-of-picture"))
    assert browser.find_element(By.ID, "live").get_attribute("src") == held
    assert "grayscale" not in browser.find_element(By.ID, "live").value_of_css_property("filter")
    assert button.text == "Resume"
    browser.find_element(By.TAG_NAME, "body").send_keys("p")
    until(lambda: browser.find_element(By.ID, "live").get_attribute("src") != held)
    assert button.text == "Pause"


@pytest.mark.parametrize(("max_age_ms", "limit_s"), [(None, 2.0), (400.0, 0.4)])
def test_an_old_picture_is_grey_and_says_how_old(start_robot, browser, max_age_ms, limit_s):
    robot = start_robot(max_age_ms=max_age_ms)
    browser.get(robot.page.url)
    choose(browser, "mask")
    until(lambda: colors(browser) == ["b", "g", "r"])
    robot.moves.clear()
    until(lambda: "old" in browser.find_element(By.ID, "picture").get_attribute("class").split())
    said = text(browser, "#age-of-picture")
    assert limit_s <= float(said.split(" s old")[0]) + 0.05
    until(lambda: colors(browser) == ["-", "-", "-"])
    robot.moves.set()
    until(lambda: colors(browser) == ["b", "g", "r"])
    assert "old" not in browser.find_element(By.ID, "picture").get_attribute("class").split()


def test_classes_are_hidden_and_shown_again(robot, browser):
    choose(browser, "mask")
    until(lambda: colors(browser) == ["b", "g", "r"])
    for row in browser.find_elements(By.CSS_SELECTOR, "#classes label")[:2]:
        row.click()
    until(lambda: colors(browser) == ["-", "-", "r"])
    browser.find_element(By.ID, "all-classes").click()
    until(lambda: colors(browser) == ["b", "g", "r"])
    assert not browser.find_element(By.ID, "all-classes").is_displayed()


def test_full_screen_and_back(robot, browser):
    for key in ("f", "f"):
        before = browser.find_element(By.ID, "stage").rect["width"]
        browser.find_element(By.TAG_NAME, "body").send_keys(key)
        until(lambda before=before: browser.find_element(By.ID, "stage").rect["width"] != before)
    assert browser.execute_script("return document.fullscreenElement") is None


def test_the_model_says_what_it_is(robot, browser):
    browser.find_element(By.CSS_SELECTOR, "#model-card summary").click()
    until(lambda: "float32" in text(browser, "#model"))
    assert "tiny" in text(browser, "#model")


@pytest.mark.parametrize(("width", "height"), [(844, 390), (667, 375), (568, 320), (932, 430)])
@pytest.mark.parametrize("problem", [None, "the cable is loose " * 5])
def test_a_phone_on_its_side_shows_picture_and_controls_at_once(robot, browser, width, height, problem):
    robot.source.problem = problem
    robot.source.state = SourceState.STALLED if problem else SourceState.RUNNING
    look(browser, width, height)
    until(lambda: browser.execute_script("return [innerWidth, innerHeight]") == [width, height])
    until(lambda: text(browser, "#problem") == (problem or "").strip())
    browser.execute_script("scrollTo(0, 0)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    picture_at = browser.find_element(By.ID, "live").rect
    assert picture_at["height"] > 0.5 * height
    controls = browser.find_elements(By.CSS_SELECTOR, "#tools label, #tools button, #tools input[type=range]")
    for control in controls:
        place = control.rect
        assert place["width"] > 20
        assert 0 <= place["x"] <= place["x"] + place["width"] <= width
        assert place["y"] + place["height"] <= height
    places = [control.rect for control in controls if control.tag_name == "button"]
    assert len({place["y"] for place in places}) == 1


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844), (320, 640)])
def test_nothing_is_wider_than_the_screen(robot, browser, width, height):
    look(browser, width, height)
    until(lambda: browser.execute_script("return innerWidth") == width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    live = browser.find_element(By.ID, "live").rect
    assert live["width"] > 0.6 * width
    side = browser.find_element(By.ID, "tiles").rect
    assert (side["x"] > live["width"]) == (width > 900)


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844), (844, 390)])
def test_the_ground_from_above_stands_beside_the_picture(start_robot, browser, width, height):
    look(browser, width, height)
    camera = CameraModel(128, 96, 80.0, 80.0, 63.5, 47.5, height_m=1.0, pitch_rad=0.3)
    robot = start_robot(ground=GroundSight(camera, {2}))
    browser.get(robot.page.url)
    above = browser.find_element(By.ID, "above")
    until(lambda: above.is_displayed() and (picture(browser, "above").max(axis=2) > 200).mean() > 0.01)
    first = above.get_attribute("src")
    until(lambda: above.get_attribute("src") != first)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    place, live = above.rect, browser.find_element(By.ID, "live").rect
    assert (place["x"] >= live["x"] + live["width"]) == (width > 560)
    assert place["width"] < 0.75 * width
    keys = browser.find_element(By.TAG_NAME, "body")
    keys.send_keys("g")
    until(lambda: not above.is_displayed())
    keys.send_keys("g")
    until(above.is_displayed)
    keys.send_keys("f")
    until(lambda: above.find_element(By.XPATH, "..").get_attribute("id") == "picture")
    keys.send_keys("f")
    until(lambda: above.find_element(By.XPATH, "..").get_attribute("id") == "ground")


def test_without_a_camera_no_ground_is_asked_for(robot, browser):
    until(lambda: text(browser, "#state") == "running")
    assert not browser.find_element(By.ID, "ground-card").is_displayed()


def test_a_hidden_page_takes_no_pictures(robot, browser, monkeypatch):
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    taken: list[object] = []
    jpeg = robot.page._viewfinder.jpeg
    try:
        time.sleep(0.5)  # for the picture that is under way
        monkeypatch.setattr(robot.page._viewfinder, "jpeg", lambda look: taken.append(look) or jpeg(look))
        before = robot.count
        until(lambda: robot.count > before + 20)
        assert taken == []
    finally:
        browser.close()
        browser.switch_to.window(first)
    until(lambda: len(taken) > 2)


def test_the_token_opens_the_page_and_disappears(start_robot, browser):
    robot = start_robot(token=TOKEN)
    browser.get(robot.page.url)
    assert "this page needs its token" in text(browser, "body")
    browser.get(f"{robot.page.url}?token={TOKEN}x")
    assert "this page needs its token" in text(browser, "body")
    browser.get_log("browser")
    browser.get(f"{robot.page.url}?token={TOKEN}")
    until(lambda: text(browser, "#state") == "running" and picture(browser).mean() > 20)
    assert browser.current_url == robot.page.url
    assert TOKEN not in browser.page_source
    assert browser.execute_script("return document.cookie") == ""


def test_a_link_with_the_token_works_from_elsewhere(start_robot, browser):
    robot = start_robot(token=TOKEN)
    browser.get(f"data:text/html,<a href='{robot.page.url}?token={TOKEN}'>the robot</a>")
    browser.find_element(By.TAG_NAME, "a").click()
    until(lambda: text(browser, "h1") == "edgeseg" and picture(browser).mean() > 20)


def test_a_token_that_changed_is_told(start_robot, browser):
    robot = start_robot(token=TOKEN)
    browser.get(f"{robot.page.url}?token={TOKEN}")
    until(lambda: text(browser, "#state") == "running")
    robot.close()
    start_robot(port=robot.page.address.port, token=TOKEN + "x")
    until(lambda: "the token has changed" in text(browser, "#veil"))
    browser.get_log("browser")


def processes_under(pid: int) -> list[int]:
    """All processes that a process has started, and those that these have."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux to find the browser's parts")
def test_a_browser_that_freezes_does_not_hold_up_the_loop(robot, browser, monkeypatch):
    monkeypatch.setattr(handler, "SEND_S", 10 * WAIT_S)  # so that nothing rescues the loop
    robot.size_hw, robot.is_noisy = (480, 640), True
    browser.execute_script("document.body.append(stream = new Image()); stream.src = '/stream.mjpg?view=raw'")
    until(lambda: robot.page._server.streams == 1)
    frozen = processes_under(browser.service.process.pid)
    try:
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        before = robot.count
        until(lambda: robot.count > before + 120)  # 30 MB of pictures: no pipe holds so much
        assert robot.page._server.streams == 1
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    browser.execute_script("stream.remove()")
