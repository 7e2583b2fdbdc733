from __future__ import annotations

import contextlib
import dataclasses
import io
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.contract import ClassMap
from runtime.errors import ConfigError, OutputError, SourceError
from runtime.frame import Frame
from runtime.ground import CameraModel
from runtime.ground.options import GridOptions, GroundOptions
from runtime.loop import run
from runtime.outputs import Outputs, Stream
from runtime.outputs.options import OutputOptions
from runtime.serve.address import Address
from runtime.sources import FakeSource, open_source

pytest.importorskip("rosbags.rosbag2")
pytest.importorskip("mcap.reader")
mcap_reader = pytest.importorskip("mcap.reader")
mcap_stream = pytest.importorskip("mcap.stream_reader")
highlevel = pytest.importorskip("rosbags.highlevel")

from runtime.outputs.bag import BagOutput, ground_under  # noqa: E402 - after the question for its packages
from runtime.outputs.segments import SegmentOptions  # noqa: E402
from runtime.ros.topics import OVERLAY, POINTS, Ground  # noqa: E402
from tests.runtime.ros import bag_files  # noqa: E402

ROOT = Path(__file__).parents[3]
NEEDS_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and limits")
START_NS, SECOND_NS = bag_files.START_NS, bag_files.SECOND_NS
CAMERA = CameraModel(64, 48, 50.0, 50.0, 31.5, 23.5, height_m=1.0, pitch_rad=0.3)
GRID = GridOptions(grid_ahead=(0.0, 6.0), grid_side=(-3.0, 3.0), cell_m=0.25)
PICTURES = {"/segmentation/mask", "/segmentation/overlay"}
GROUND = {f"/segmentation/{name}" for name in ("occupancy", "scan", "points")}
LATCHED = {"/segmentation/label_info", "/tf_static"}


def stamped(step, count: int = 5, **changes):
    """Steps whose frames come from a bag, 10 a second."""
    for index in range(count):
        made = step(index, **changes)
        frame = made.frame
        stamp_ns = START_NS + index * SECOND_NS // 10
        object.__setattr__(
            made, "frame", Frame(frame.image_bgr, index, frame.captured_ns, stamp_ns, "optical")
        )
        yield made


def by_mcap(path: Path) -> list[tuple[str, str, int]]:
    """Topic, type and time of every message, as the mcap package reads them, checksums included."""
    with path.open("rb") as file:
        reader = mcap_reader.make_reader(file, validate_crcs=True)
        return [(channel.topic, schema.name, one.log_time) for schema, channel, one in reader.iter_messages()]


def by_rosbags(path: Path) -> list[tuple[str, str, int, object]]:
    with highlevel.AnyReader([path]) as reader:
        return [
            (one.topic, one.msgtype, logged_ns, reader.deserialize(data, one.msgtype))
            for one, logged_ns, data in reader.messages()
        ]


def stamp_of(message) -> int:
    header = message.transforms[0].header if hasattr(message, "transforms") else message.header
    return header.stamp.sec * SECOND_NS + header.stamp.nanosec


@pytest.mark.parametrize("has_ground", [False, True])
def test_both_readers_find_the_same(tmp_path, stream, step, has_ground):
    path = tmp_path / "new" / "out.mcap"
    with BagOutput(path, Ground(CAMERA, {0}, GRID) if has_ground else None) as output:
        output.open(stream)
        for one in stamped(step):
            output.take(one)
    expected = PICTURES | (GROUND if has_ground else set())
    stamps = [START_NS + index * SECOND_NS // 10 for index in range(5)]
    first, second = by_mcap(path), by_rosbags(path)
    assert sorted(first) == sorted((topic, kind, time_ns) for topic, kind, time_ns, _ in second)
    counts = Counter(topic for topic, *_ in first)
    latched = LATCHED if has_ground else {"/segmentation/label_info"}
    assert counts == {**dict.fromkeys(expected, 5), **dict.fromkeys(latched, 1)}
    for topic in expected:
        found = [(time_ns, stamp_of(message)) for name, _, time_ns, message in second if name == topic]
        assert found == [(stamp_ns, stamp_ns) for stamp_ns in stamps]
    assert {topic for topic, *_ in first[: len(latched)]} == latched  # before the first mask


def test_what_is_written_is_what_was_seen(tmp_path, stream, step):
    path = tmp_path / "out.mcap"
    mask = np.zeros((48, 64), np.uint8)
    mask[:20], mask[24:40, 8:30] = 1, 2
    with BagOutput(path, Ground(CAMERA, {0}, GRID)) as output:
        output.open(stream)
        (one,) = stamped(step, 1, mask=mask)
        object.__setattr__(one.segmentation, "confidence", mask + 7)
        output.take(one)
    found = {topic: message for topic, _, _, message in by_rosbags(path)}
    assert np.array_equal(found["/segmentation/mask"].data.reshape(48, 64), mask)
    assert np.array_equal(found["/segmentation/confidence"].data.reshape(48, 64), mask + 7)
    overlay = cv2.imdecode(found["/segmentation/overlay"].data, cv2.IMREAD_COLOR)
    assert np.abs(overlay.astype(int) - one.overlay_bgr).mean() < 4
    grid = Ground(CAMERA, {0}, GRID)._seen.view.occupancy(mask, {0}, mask + 7)
    assert np.array_equal(found["/segmentation/occupancy"].data.reshape(grid.shape), grid)
    names = [one.class_name for one in found["/segmentation/label_info"].class_map]
    assert names == ["road", "sky", "car"]
    assert found["/segmentation/mask"].header.frame_id == "optical"
    assert found["/segmentation/scan"].header.frame_id == "optical_ground"
    assert found["/tf_static"].transforms[0].child_frame_id == "optical_ground"


def test_latched_topics_are_offered_as_such(tmp_path, stream, step):
    path = tmp_path / "out.mcap"
    with BagOutput(path, Ground(CAMERA, {0}, GRID)) as output:
        output.open(stream)
        for one in stamped(step, 1):
            output.take(one)
    with highlevel.AnyReader([path]) as reader:
        offered = {one.topic: one.ext.offered_qos_profiles[0] for one in reader.connections}
    for topic, profile in offered.items():
        assert profile.reliability.name == "RELIABLE"
        assert profile.durability.name == ("TRANSIENT_LOCAL" if topic in LATCHED else "VOLATILE")
        assert profile.history.name == "KEEP_LAST"


def test_pictures_without_a_stamp_get_the_time_of_their_capture(tmp_path, stream, step):
    path = tmp_path / "out.mcap"
    with BagOutput(path) as output:
        output.open(stream)
        before_ns = time.time_ns()
        output.take(step(0))
        after_ns = time.time_ns()
    (found,) = [message for topic, *_, message in by_rosbags(path) if topic == "/segmentation/mask"]
    assert before_ns - SECOND_NS < stamp_of(found) < after_ns + SECOND_NS
    assert found.header.frame_id == "camera_optical_frame"


def test_topics_that_are_left_out_are_not_there(tmp_path, stream, step):
    path = tmp_path / "out.mcap"
    with BagOutput(path, Ground(CAMERA, {0}, GRID), leave_out=[POINTS]) as output:
        output.open(stream)
        for one in stamped(step, 2):
            output.take(one)
    assert "/segmentation/points" not in {topic for topic, *_ in by_mcap(path)}


def test_a_camera_is_recorded_in_segments_that_are_whole(tmp_path, make_stream, step):
    with BagOutput(tmp_path / "out.mcap", Ground(CAMERA, {0}, GRID), SegmentOptions(segment_s=1.0)) as output:
        output.open(make_stream(live=True))
        for index, one in enumerate(stamped(step, 25)):
            captured_ns = START_NS + index * SECOND_NS // 10
            output.take(
                dataclasses.replace(one, frame=dataclasses.replace(one.frame, captured_ns=captured_ns))
            )
    assert [path.name[:10] for path in output.saved] == ["out-000001", "out-000002", "out-000003"]
    for path, count in zip(output.saved, (10, 10, 5), strict=True):
        counts = Counter(topic for topic, *_ in by_mcap(path))
        assert counts == {**dict.fromkeys(PICTURES | GROUND, count), **dict.fromkeys(LATCHED, 1)}
        assert by_mcap(path)[0][0] in LATCHED


def test_retention_keeps_the_newest(tmp_path, make_stream, step):
    options = SegmentOptions(segment_s=0.5, keep_gb=1e-9)
    with BagOutput(tmp_path / "out.mcap", None, options) as output:
        output.open(make_stream(live=True))
        for index in range(20):
            output.take(step(index, captured_ns=SECOND_NS + index * SECOND_NS // 10))
    assert [path.name[:10] for path in tmp_path.iterdir()] == ["out-000004"]


def test_a_bag_that_failed_is_opened_again_and_copies_nothing_twice(tmp_path, segment):
    source_path = bag_with_more(tmp_path, 12)
    with open_source(str(source_path)) as source:
        stream = Stream(segment.contract, source)
        options = SegmentOptions(segment_s=60.0)
        with Outputs([], stream) as nothing:
            steps = nothing.feed(run(source, segment, overlap=False))
            with BagOutput(
                tmp_path / "out.mcap", None, options, copy_topics=["/chatter"], leave_out=[OVERLAY]
            ) as output:
                output.open(stream)
                for _ in range(5):
                    output.take(next(steps))
                output.close()  # as after a failure
                next(steps)
                output.open(stream)
                for one in steps:
                    output.take(one)
    first, second = output.saved
    texts = [m.data for path in (first, second) for topic, *_, m in by_rosbags(path) if topic == "/chatter"]
    assert texts == [str(index) for index in (*range(4), *range(4, 12))]


def bag_with_more(folder: Path, count: int = 6) -> Path:
    entries = [("/early", START_NS - SECOND_NS, bag_files.text("early"))]
    entries += bag_files.drive(count)
    entries += [("/late", START_NS + 100 * SECOND_NS, bag_files.text("late"))]
    return bag_files.write_ros2(folder / "drive", entries)


def record(
    source_path: Path, out: Path, segmentation_of, *, max_frames=None, realtime=False, **settings
) -> None:
    """Run a bag through the loop into another one."""
    with open_source(str(source_path), realtime=realtime) as source:
        stream = Stream(segmentation_of.contract, source, str(source_path))
        with Outputs([BagOutput(out, **settings)], stream) as outputs:
            for _ in outputs.feed(run(source, segmentation_of, max_frames=max_frames)):
                pass


@pytest.fixture
def segment(tiny_onnx):
    from runtime.segmenter import Segmenter

    with Segmenter(tiny_onnx) as segmenter:
        yield segmenter


@pytest.mark.parametrize("realtime", [False, True])
def test_topics_are_copied_as_they_are(tmp_path, segment, realtime):
    source, out = bag_with_more(tmp_path), tmp_path / "out.mcap"
    record(source, out, segment, copy_topics=["*"], realtime=realtime)
    if realtime:  # as of a camera
        (out,) = tmp_path.glob("out-000001-*.mcap")
    before, after = by_rosbags(source), by_rosbags(out)
    copied = [one for one in after if not one[0].startswith("/segmentation")]
    assert [(topic, kind, time_ns) for topic, kind, time_ns, _ in copied] == [
        (topic, kind, time_ns) for topic, kind, time_ns, _ in before
    ]
    for (*_, first), (*_, second) in zip(before, copied, strict=True):
        assert bag_files.STORE.serialize_cdr(first, first.__msgtype__) == bag_files.STORE.serialize_cdr(
            second, second.__msgtype__
        )
    recorded = {stamp_of(message): time_ns for topic, _, time_ns, message in before if "image" in topic}
    masks = [(stamp_of(m), time_ns) for topic, _, time_ns, m in after if topic == "/segmentation/mask"]
    assert masks
    assert all(recorded[stamp_ns] == time_ns for stamp_ns, time_ns in masks)  # beside its picture
    assert realtime or len(masks) == 6
    assert len(by_mcap(out)) == len(after)


def test_only_topics_that_match_are_copied(tmp_path, segment):
    source, out = bag_with_more(tmp_path), tmp_path / "out.mcap"
    record(source, out, segment, copy_topics=["/chat*", "/late"])
    counts = Counter(topic for topic, *_ in by_mcap(out))
    assert (counts["/chatter"], counts["/late"], counts["/early"], counts["/camera/image_raw"]) == (
        6,
        1,
        0,
        0,
    )


def test_what_comes_after_the_last_frame_is_not_copied_where_the_loop_stopped_early(tmp_path, segment):
    source, out = bag_with_more(tmp_path, 50), tmp_path / "out.mcap"
    record(source, out, segment, copy_topics=["*"], max_frames=3)
    counts = Counter(topic for topic, *_ in by_mcap(out))
    assert (counts["/segmentation/mask"], counts["/camera/image_raw"], counts["/late"]) == (3, 3, 0)


def test_topics_that_are_not_there_are_told(tmp_path, segment):
    with pytest.raises(OutputError, match=r"match /odom, got none; the bag has /camera/image_raw, /chatter"):
        record(bag_with_more(tmp_path), tmp_path / "out.mcap", segment, copy_topics=["/odom"])
    assert not (tmp_path / "out.mcap").exists()


@pytest.mark.parametrize("has_index", [True, False])
def test_topics_of_a_ros1_bag_are_copied_as_ros2_has_them(tmp_path, segment, has_index):
    source = bag_files.write_ros1(
        tmp_path / "a.bag", [*bag_files.ros1_specialities(), *bag_files.drive(3, store=bag_files.ROS1_STORE)]
    )
    if not has_index:
        bag_files.cut_index(source)
    with pytest.raises(SourceError) if not has_index else contextlib.nullcontext():
        record(source, tmp_path / "out.mcap", segment, copy_topics=["*"])
    after = by_rosbags(tmp_path / "out.mcap")
    messages = {topic: (kind, message) for topic, kind, _, message in after}
    assert Counter(topic for topic, *_ in after)["/segmentation/mask"] == 3
    kind, picture = messages["/camera/image_raw"]
    assert (kind, stamp_of(picture)) == ("sensor_msgs/msg/Image", START_NS + 2 * SECOND_NS // 10)
    assert (picture.data == 2).all()
    assert not hasattr(picture.header, "seq")
    assert messages["/chatter"][1].data == ("2" if has_index else "1")  # what follows the last picture
    kind, transforms = messages["/tf"]
    assert (kind, transforms.transforms[0].child_frame_id) == ("tf2_msgs/msg/TFMessage", "base")
    kind, wheel = messages["/wheel"]  # of a type that only the bag knows
    assert (kind, wheel.header.frame_id, wheel.ticks, wheel.side) == ("robot/msg/Wheel", "base", 7, "left")
    with (tmp_path / "out.mcap").open("rb") as file:
        channels = mcap_reader.make_reader(file).get_summary().channels.values()
    qos = {channel.topic: channel.metadata.get("offered_qos_profiles", "") for channel in channels}
    assert "durability: 1" in qos["/tf_static"]
    assert "durability: 1" not in qos["/tf"]


def test_topics_need_a_bag_to_be_copied_from(tmp_path, stream):
    with pytest.raises(OutputError, match="expected a bag as the source"):
        BagOutput(tmp_path / "out.mcap", copy_topics=["*"]).open(stream)


def test_the_bag_that_is_read_is_not_replaced(tmp_path, segment):
    source = bag_with_more(tmp_path)
    data = source.read_bytes()
    with pytest.raises(OutputError, match="expected another file than the bag that is read"):
        record(source, source, segment)
    assert source.read_bytes() == data


@pytest.mark.parametrize("name", ["out.bag", "out.db3", "out"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(OutputError, match=r"expected a bag that ends in .mcap"):
        BagOutput(tmp_path / name)


def test_folders_are_refused(tmp_path, stream):
    (tmp_path / "a.mcap").mkdir()
    with pytest.raises(OutputError, match="got a folder"):
        BagOutput(tmp_path / "a.mcap")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write it"):
        BagOutput(tmp_path / "file" / "out.mcap").open(stream)


def readable(data: bytes) -> list[int]:
    """Times of the masks that the mcap package reads from the start of a file that may be cut."""
    found, numbers = [], set()
    try:
        for one in mcap_stream.StreamReader(io.BytesIO(data), validate_crcs=True).records:
            if type(one).__name__ == "Channel" and one.topic == "/segmentation/mask":
                numbers.add(one.id)
            elif type(one).__name__ == "Message" and one.channel_id in numbers:
                found.append(one.log_time)
    except Exception:  # where it is cut
        pass
    return found


def test_wherever_a_bag_is_cut_the_last_second_is_all_that_is_lost(tmp_path, stream, step, monkeypatch):
    """At each frame the file so far is looked at, as after a power cut then."""
    from runtime.ros import mcap_files

    now_s = 0.0
    monkeypatch.setattr(
        mcap_files.McapWriter.__init__, "__kwdefaults__", {"chunk_s": 1.0, "clock_s": lambda: now_s}
    )
    path = tmp_path / "out.mcap"
    with BagOutput(path) as output:
        output.open(stream)
        for index, one in enumerate(stamped(step, 100)):
            now_s = index / 10
            output.take(one)
            found = readable(path.read_bytes())
            assert index + 1 - len(found) <= 11, "a second of frames, and the one that is under way"
    whole = path.read_bytes()
    assert len(readable(whole)) == 100
    at = [len(readable(whole[:size])) for size in range(0, len(whole), 499)]
    assert at == sorted(at)


@NEEDS_POSIX
def test_a_killed_process_leaves_a_bag_that_is_read(tmp_path):
    path = tmp_path / "out.mcap"
    command = [
        sys.executable,
        "-m",
        "runtime.camera",
        "--source",
        "synthetic",
        "--headless",
        "--out",
        str(path),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + 120
        while not (path.exists() and len(readable(path.read_bytes())) >= 3):
            assert time.monotonic() < deadline_s
            assert process.poll() is None
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    seen, problem = 0, ""
    with open_source(str(path), topic="/segmentation/overlay") as source:
        try:
            for _ in source:
                seen += 1
        except SourceError as error:
            problem = str(error)
    assert seen >= 3
    assert "cut after" in problem
    assert problem.endswith("all messages before were read")


@NEEDS_POSIX
def test_a_full_disk_is_told_and_leaves_what_was_written(tmp_path, stream, step):
    """A limit on the file's size is what a full disk looks like to a program."""
    out = tmp_path / "out.mcap"
    flags = ["camera", "--source", "synthetic", "--headless", "--max-frames", "60", "--out", str(out)]
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "from runtime.__main__ import main\n"
        f"sys.exit(main({flags!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        "cannot write it (File too large); free some space; what was written before is whole" in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert readable(out.read_bytes())


def camera_file(folder: Path) -> Path:
    path = folder / "camera.yaml"
    path.write_text(
        "image_width: 64\nimage_height: 48\n"
        "camera_matrix:\n  data: [50, 0, 31.5, 0, 50, 23.5, 0, 0, 1]\n"
        "pose:\n  height_m: 1.0\n  pitch_rad: 0.3\n"
    )
    return path


def test_the_flags_of_metres_make_a_ground(tmp_path, stream):
    assert ground_under(GroundOptions(), stream) is None
    ground = ground_under(GroundOptions(camera=camera_file(tmp_path), free=("road",), grid=GRID), stream)
    assert ground is not None
    assert ground._seen.view.camera == CAMERA


def test_a_bag_brings_its_own_camera(tmp_path, make_stream):
    (tmp_path / "pose.yaml").write_text("height_m: 1.0\npitch_rad: 0.3\n")
    info = ("/camera/camera_info", START_NS, bag_files.camera_info(64, 48, 50.0))
    path = bag_files.write_ros2(tmp_path / "a", [info, *bag_files.drive(2)])
    options = GroundOptions(pose=tmp_path / "pose.yaml", free=("road", "car"), grid=GRID)
    for realtime in (False, True):
        with open_source(str(path), realtime=realtime) as source:
            ground = ground_under(options, Stream(make_stream().contract, source))
            assert ground is not None
            assert ground._seen.view.camera == CAMERA
    stream = Stream(make_stream().contract, FakeSource([]))
    with pytest.raises(ConfigError, match="expected a file of it, or a bag with camera_info"):
        ground_under(options, stream)


def test_a_class_that_the_network_does_not_know_is_told(tmp_path, stream):
    options = GroundOptions(camera=camera_file(tmp_path), free=("road", "lawn"), grid=GRID)
    with pytest.raises(ConfigError, match="free: expected classes among road, sky, car, got lawn"):
        ground_under(options, stream)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"free": ("road",)}, "free: expected --camera FILE too"),
        ({"draw_grid": True}, "draw_grid: expected --camera FILE too"),
    ],
)
def test_metres_need_a_camera(settings, said):
    with pytest.raises(ConfigError, match=said):
        GroundOptions(**settings)


def test_what_is_free_comes_from_the_contract_or_from_the_flag():
    silent = ClassMap(("road", "lawn"), ((0, 0, 0), (0, 0, 1)))
    stated = dataclasses.replace(silent, traversable=("road",))
    options = GroundOptions(camera=Path("a.yaml"))
    assert options.free_indices(stated) == {0}
    assert dataclasses.replace(options, free=("lawn", "road")).free_indices(stated) == {0, 1}
    with pytest.raises(ConfigError, match=r"free: .* name them with --free, out of road, lawn"):
        options.free_indices(silent)


@pytest.mark.parametrize(
    "settings",
    [
        {"copy_topics": ("*",)},
        {"leave_out": ("points",)},
    ],
)
def test_nothing_is_asked_of_a_bag_that_is_not_there(settings):
    with pytest.raises(ConfigError, match=r"expected --out FILE.mcap too"):
        OutputOptions(**settings)


def test_metres_are_asked_for_where_they_show():
    ground = GroundOptions(camera=Path("a.yaml"))
    with pytest.raises(ConfigError, match="camera: expected something that shows metres too, got nothing"):
        OutputOptions(headless=True, ground=ground)
    assert OutputOptions(ground=ground).ground is ground
    drawn = dataclasses.replace(ground, draw_grid=True)
    assert OutputOptions(headless=True, ground=drawn).ground is drawn
    page = OutputOptions(headless=True, ground=ground, serve=Address("127.0.0.1", 0))
    assert page.ground is ground


def test_the_command_makes_a_bag_of_a_bag(tmp_path):
    (tmp_path / "pose.yaml").write_text("height_m: 1.5\npitch_rad: 0.1\n")
    picture = np.full((360, 480, 3), 90, np.uint8)
    entries = [("/camera/camera_info", START_NS, bag_files.camera_info(480, 360, 400.0))]
    for index in range(3):
        stamp_ns = START_NS + index * SECOND_NS // 10
        entries.append(("/camera/image_raw", stamp_ns, bag_files.image(picture, "rgb8", stamp_ns)))
    source, out = bag_files.write_ros2(tmp_path / "drive", entries), tmp_path / "out.mcap"
    flags = ["--source", str(source), "--topic", "/camera/image_raw", "--headless", "--out", str(out)]
    flags += ["--pose", str(tmp_path / "pose.yaml"), "--free", "road", "pavement", "--leave-out", "points"]
    flags += ["--copy-topics", "/camera/camera_info", "--unknown-below", "0.5"]
    command = [sys.executable, "-m", "runtime.camera", *flags]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    counts = Counter(topic for topic, *_ in by_mcap(out))
    topics = (PICTURES | GROUND | {"/segmentation/confidence"}) - {"/segmentation/points"}
    assert counts == {**dict.fromkeys(topics, 3), **dict.fromkeys(LATCHED | {"/camera/camera_info"}, 1)}
    (labels,) = [message for topic, *_, message in by_rosbags(out) if topic == "/segmentation/label_info"]
    assert labels.threshold == 0.5
