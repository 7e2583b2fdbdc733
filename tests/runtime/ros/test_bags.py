from __future__ import annotations

import gc
import math
import shutil
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import ConfigError, SourceError
from runtime.ros import library
from runtime.ros.bag import Channel
from runtime.ros.bags import is_bag, open_bag
from runtime.ros.mcap_files import McapWriter

pytest.importorskip("rosbags.rosbag2")
pytest.importorskip("mcap.reader")
mcap_writer = pytest.importorskip("mcap.writer")

from tests.runtime.ros import bag_files  # noqa: E402 - after the question whether its packages are here

IMAGES = "/camera/image_raw"
START_NS = bag_files.START_NS


def write(path: Path, entries, *, chunk_size: int = 4096, **settings) -> Path:
    """An MCAP file by the mcap package, with chunks of a few messages."""
    with path.open("wb") as file:
        writer = mcap_writer.Writer(file, chunk_size=chunk_size, **settings)
        writer.start(profile="ros2")
        channels = {}
        for topic, logged_ns, message in entries:
            kind = message.__msgtype__
            if topic not in channels:
                text, _ = bag_files.STORE.generate_msgdef(kind, ros_version=2)
                schema = writer.register_schema(kind, "ros2msg", text.encode())
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            data = bytes(bag_files.STORE.serialize_cdr(message, kind))
            writer.add_message(channels[topic], logged_ns, data, logged_ns)
        writer.finish()
    return path


def contents(path: Path, topics=(IMAGES,)) -> tuple[list[tuple[str, int]], str]:
    """Topic and time of every message, and the error that ends them."""
    found = []
    try:
        with open_bag(path) as bag:
            found.extend((record.channel.topic, record.logged_ns) for record in bag.records(topics))
    except SourceError as error:
        return found, str(error)
    return found, ""


def times(entries, topics=(IMAGES,)) -> list[tuple[str, int]]:
    return [(topic, logged_ns) for topic, logged_ns, _ in entries if topic in topics]


def bags_of_every_kind(folder: Path) -> list[Path]:
    entries = bag_files.drive()
    mcap_file = bag_files.write_ros2(folder / "mcap", entries)
    db3_file = bag_files.write_ros2(folder / "sqlite", entries, "sqlite3")
    ros1 = bag_files.write_ros1(folder / "ros1.bag", bag_files.drive(store=bag_files.ROS1_STORE))
    return [folder / "mcap", mcap_file, folder / "sqlite", db3_file, ros1]


def test_every_kind_of_bag_holds_the_same(tmp_path):
    expected = times(bag_files.drive(), (IMAGES, "/chatter"))
    for path in bags_of_every_kind(tmp_path):
        assert is_bag(path)
        assert contents(path, (IMAGES, "/chatter")) == (expected, "")
        assert contents(path) == (times(bag_files.drive()), "")
        assert contents(path, ("/nothing",)) == ([], "")
        with open_bag(path) as bag:
            counts = {channel.topic: (channel.type, channel.count) for channel in bag.channels}
            assert counts == {IMAGES: (bag_files.IMAGE, 10), "/chatter": (bag_files.TEXT, 10)}
            assert bag.span_ns == (expected[0][1], expected[-1][1])
            assert not bag.damage
            texts = [record.message().data for record in bag.records(["/chatter"])]
            assert texts == [str(index) for index in range(10)]


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "ZSTD"])
@pytest.mark.parametrize("use_chunking", [True, False])
def test_files_of_the_mcap_package_are_read(tmp_path, compression, use_chunking):
    kind = mcap_writer.CompressionType[compression]
    path = write(tmp_path / "a.mcap", bag_files.drive(), compression=kind, use_chunking=use_chunking)
    assert contents(path, (IMAGES, "/chatter")) == (times(bag_files.drive(), (IMAGES, "/chatter")), "")


@pytest.mark.parametrize("index", ["NONE", "CHUNK"])
def test_a_file_that_lacks_indexes_is_read(tmp_path, index):
    kind = mcap_writer.IndexType[index]
    path = write(tmp_path / "a.mcap", bag_files.drive(), index_types=kind, use_statistics=index == "CHUNK")
    assert contents(path) == (times(bag_files.drive()), "")


def test_chunks_whose_times_overlap_come_in_order(tmp_path):
    entries = bag_files.drive(30)
    shuffled = [entries[place] for place in np.random.default_rng(0).permutation(len(entries))]
    path = write(tmp_path / "a.mcap", shuffled, chunk_size=20_000)
    assert contents(path) == (times(entries), "")


def test_a_cut_file_is_read_as_far_as_it_goes(tmp_path):
    """Wherever it is cut, what was complete before is there, and an error tells of the rest."""
    entries = bag_files.drive(6)
    whole = write(tmp_path / "whole.mcap", entries).read_bytes()
    cut = tmp_path / "cut.mcap"
    counts = []
    data_end = whole.index(b"\x0f\x04\x00\x00\x00\x00\x00\x00\x00")
    for size in [*range(0, 200, 7), *range(200, data_end, 997), data_end - 1]:
        cut.write_bytes(whole[:size])
        found, problem = contents(cut)
        assert found == times(entries)[: len(found)]
        assert problem, size
        counts.append(len(found))
    assert counts == sorted(counts)
    assert counts[-1] >= 5
    for size in range(data_end + 13, len(whole), 101):  # only the summary is cut: nothing is missing
        cut.write_bytes(whole[:size])
        assert contents(cut) == (times(entries), "")


def test_a_cut_between_two_chunks_is_told(tmp_path):
    path = tmp_path / "a.mcap"
    with McapWriter(path.open("wb"), chunk_s=0.0) as writer:  # each message is on the disk at once
        channel = open_channel(tmp_path)
        for index in range(4):
            writer.write(channel, START_NS + index, b"\0\1\0\0\0\0\0\0")
        size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:size])
    found, problem = contents(path, ("/chatter",))
    assert len(found) == 4
    assert "the bag is cut after" in problem


def open_channel(folder: Path):
    bag_files.write_ros2(folder / "other", bag_files.drive(1))
    with open_bag(folder / "other") as bag:
        return next(channel for channel in bag.channels if channel.topic == "/chatter")


def test_a_damaged_chunk_costs_only_its_own_messages(tmp_path):
    entries = bag_files.drive(12)
    path = write(tmp_path / "a.mcap", entries, compression=mcap_writer.CompressionType.NONE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    found, problem = contents(path)
    assert 8 <= len(found) < 12
    assert set(found) < set(times(entries))
    assert "the bag is damaged at byte" in problem
    assert "all other messages were read" in problem


def test_flipped_bytes_never_raise_anything_else(tmp_path):
    for whole in [
        write(tmp_path / "a.mcap", bag_files.drive(2)),
        bag_files.write_ros2(tmp_path / "db", bag_files.drive(2, size=4), "sqlite3"),
        bag_files.write_ros1(tmp_path / "c.bag", bag_files.drive(2, store=bag_files.ROS1_STORE)),
    ]:
        data = whole.read_bytes()
        random = np.random.default_rng(1)
        damaged = tmp_path / f"damaged{whole.suffix}"
        for _ in range(60):
            changed = bytearray(data)
            for place in random.integers(0, len(data), 4):
                changed[place] = random.integers(256)
            damaged.write_bytes(changed)
            try:
                with open_bag(damaged) as bag:
                    for record in bag.records([IMAGES, "/chatter"]):
                        record.message()
            except SourceError:
                pass


def chunk_of(packed: bytes, says: int, compression: str) -> bytes:
    """A file whose only chunk says that it unpacks to so many bytes."""
    name = compression.encode()
    body = struct.pack("<QQQII", 0, 0, says, 0, len(name)) + name + struct.pack("<Q", len(packed)) + packed
    header = struct.pack("<II", 0, 0)
    return b"\x89MCAP0\r\n" + b"".join(
        struct.pack("<BQ", code, len(data)) + data for code, data in ((1, header), (6, body))
    )


@pytest.mark.parametrize("says", [100, 1 << 40])
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_chunk_that_unpacks_to_gigabytes_fills_no_memory(tmp_path, compression, says):
    if compression == "zstd":
        packed = pytest.importorskip("zstandard").compress(bytes(256 << 20))
    else:
        packed = pytest.importorskip("lz4.frame").compress(bytes(256 << 20))
    path = tmp_path / "bomb.mcap"
    path.write_bytes(chunk_of(packed, says, compression))
    tracemalloc.start()
    found, problem = contents(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == []
    assert "damaged" in problem
    assert peak < 32 << 20


@pytest.mark.parametrize("missing", ["whole", "damaged"])
def test_a_folder_without_metadata_is_read_file_by_file(tmp_path, missing):
    folder = tmp_path / "drive"
    folder.mkdir()
    entries = bag_files.drive(12)
    for number, part in enumerate((entries[:8], entries[8:16], entries[16:])):
        name = f"drive_{number + 8}"  # 8, 9, 10: not the order of letters
        shutil.copy(bag_files.write_ros2(tmp_path / name, part), folder / f"{name}.mcap")
    if missing == "damaged":
        (folder / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    assert is_bag(folder)
    assert contents(folder, (IMAGES, "/chatter")) == (times(entries, (IMAGES, "/chatter")), "")
    with open_bag(folder) as bag:
        assert [(channel.topic, channel.count) for channel in bag.channels] == [
            (IMAGES, 12),
            ("/chatter", 12),
        ]
        assert bag.span_ns == (entries[0][1], entries[-1][1])


def test_a_cut_file_in_a_folder_hides_none_after_it(tmp_path):
    folder = tmp_path / "drive"
    folder.mkdir()
    entries = bag_files.drive(12)
    for number, part in enumerate((entries[:12], entries[12:])):
        kind = mcap_writer.CompressionType.NONE
        write(folder / f"drive_{number}.mcap", part, compression=kind)
    first = folder / "drive_0.mcap"
    first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    found, problem = contents(folder)
    assert found[-6:] == times(entries)[6:]
    assert 6 < len(found) < 12
    assert "cut" in problem


@pytest.mark.parametrize("index", ["missing", "cut", "never written"])
def test_a_ros1_bag_without_its_index_is_read_from_its_start(tmp_path, index):
    entries = bag_files.drive(8, store=bag_files.ROS1_STORE)
    path = bag_files.write_ros1(tmp_path / "a.bag", entries)
    data = bytearray(path.read_bytes())
    if index == "missing":
        data = data[: data.rindex(b"chunk_pos") - 100]
    elif index == "cut":
        data = data[:-30]
    else:
        place = data.index(b"index_pos=") + len(b"index_pos=")
        data[place : place + 8] = bytes(8)
    path.write_bytes(data)
    found, problem = contents(path, (IMAGES, "/chatter"))
    assert found == times(entries, (IMAGES, "/chatter"))
    assert "all messages before were read" in problem
    with open_bag(path) as bag:
        assert next(bag.records(["/chatter"])).message().data == "0"


def test_a_ros1_bag_that_ends_within_a_chunk(tmp_path):
    store = bag_files.ROS1_STORE
    entries = bag_files.drive(400, store=store)  # several chunks
    path = bag_files.write_ros1(tmp_path / "a.bag", entries)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    found, problem = contents(path)
    assert 0 < len(found) < 400
    assert found == times(entries)[: len(found)]
    assert "the bag is cut at byte" in problem


def test_a_cut_sqlite_file_is_told(tmp_path):
    path = bag_files.write_ros2(tmp_path / "drive", bag_files.drive(40), "sqlite3")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found, problem = contents(path)
    assert found == times(bag_files.drive(40))[: len(found)]
    assert "bag" in problem


@pytest.mark.parametrize("name", ["a.mcap", "a.db3", "a.bag"])
@pytest.mark.parametrize("data", [b"", b"\0", b"hello, this is no bag at all" * 100])
def test_other_files_are_refused(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(SourceError, match=name):
        open_bag(path)


def test_paths_that_are_no_bag_are_refused(tmp_path):
    assert not is_bag(tmp_path)
    assert not is_bag(tmp_path / "clip.mp4")
    with pytest.raises(SourceError, match="found no such file"):
        open_bag(tmp_path / "a.mcap")
    with pytest.raises(SourceError, match=r"expected a folder of .mcap or .db3 files, found none"):
        open_bag(tmp_path)
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(SourceError, match=r"expected a bag that ends in .mcap, .db3, .bag"):
        open_bag(tmp_path / "clip.mp4")


def test_bytes_that_are_no_such_message_are_told(tmp_path):
    path = tmp_path / "a.mcap"
    with McapWriter(path.open("wb")) as writer:
        writer.write(open_channel(tmp_path), START_NS, b"\0\1\0\0\xff\xff\xff\xff")
    with open_bag(path) as bag, pytest.raises(SourceError, match="/chatter: expected a std_msgs/msg/String"):
        next(bag.records(["/chatter"])).message()


def test_topics_that_are_not_of_ros_are_left_out(tmp_path):
    path = tmp_path / "a.mcap"
    with path.open("wb") as file:
        writer = mcap_writer.Writer(file)
        writer.start()
        schema = writer.register_schema("foxglove.Log", "protobuf", b"")
        writer.add_message(writer.register_channel("/log", "protobuf", schema), 1, b"", 1)
        writer.finish()
    with open_bag(path) as bag:
        assert bag.channels == ()
        assert list(bag.records(["/log"])) == []


def test_a_long_bag_needs_no_more_memory_than_a_short_one(tmp_path):
    peaks = []
    for count in (20, 400):
        path = write(tmp_path / f"{count}.mcap", bag_files.drive(count), chunk_size=20_000)
        cut = tmp_path / f"{count}-cut.mcap"
        cut.write_bytes(path.read_bytes()[:-200])
        for each in (path, cut):
            contents(each)  # what is imported and cached once does not count
            tracemalloc.start()
            contents_count = 0
            with open_bag(each) as bag:
                try:
                    for _ in bag.records([IMAGES]):
                        contents_count += 1
                except SourceError:
                    pass
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert contents_count > count - 10
    assert max(peaks[2:]) < min(peaks[:2]) + 400_000  # the index of the long one's chunks


def test_a_missing_package_is_told_in_one_line(tmp_path, monkeypatch):
    def fail(name):
        raise ImportError(f"No module named {name!r}")

    path = write(tmp_path / "a.mcap", bag_files.drive(1))
    monkeypatch.setattr(library.importlib, "import_module", fail)
    with pytest.raises(ConfigError, match=r"need the package mcap, .*; pip install 'edgeseg\[ros\]'$"):
        open_bag(path)


@pytest.mark.parametrize("is_packed", [True, False])
def test_a_bag_that_is_written_for_hours_keeps_a_small_index_and_the_same_bytes(
    tmp_path, monkeypatch, is_packed
):
    channels = [Channel(f"/{number}", "std_msgs/msg/String", 0) for number in range(5)]

    def record(path):
        with McapWriter(path.open("wb"), chunk_s=0.0) as writer:
            writer.write(channels[0], START_NS, b"x")
            gc.collect()
            tracemalloc.start()
            for number in range(2000):
                for channel in channels:
                    writer._flush_due_s = 0.0 if channel is channels[-1] else math.inf
                    writer.write(channel, START_NS + number, b"x")
            gc.collect()
            kept, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return kept, path.read_bytes()

    if not is_packed:  # what the test would tell
        monkeypatch.setattr("runtime.ros.mcap_files._INDEX", "no such name")
    kept, content = record(tmp_path / "a.mcap")
    assert (kept < 600_000) is is_packed
    monkeypatch.setattr("runtime.ros.mcap_files._INDEX", "no such name")
    assert record(tmp_path / "b.mcap")[1] == content
    with open_bag(tmp_path / "a.mcap") as bag:
        assert sum(1 for _ in bag.records([channel.topic for channel in channels])) == 10_001
