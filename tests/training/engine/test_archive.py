"""A checkpoint's archive cannot announce more than it holds."""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from runtime.contract import CAMVID_CLASSES, GraphOutput, ImageInput, ModelContract, Normalization
from runtime.errors import CheckpointError
from training.engine.archive import check_archive
from training.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.network.build import CameraNetwork, build_network
from training.network.sizes import ResidualConfig

CONFIG = ResidualConfig(8, (8, 8, 8, 8), (1, 1, 1, 1), decoder_width=8, detail_width=8)
CONTRACT = ModelContract(
    name="tiny",
    input=ImageInput(size_hw=(32, 64)),
    output=GraphOutput(stride=4),
    classes=CAMVID_CLASSES,
    normalization=Normalization((104.0, 110.0, 117.0), (57.0, 61.0, 66.0)),
)
Rewrite = Callable[[str, bytes], bytes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    network = CameraNetwork(build_network("residual", CONFIG, 11), CONTRACT.normalization)
    save_checkpoint(tmp_path / "best.pt", Checkpoint("residual", CONFIG, CONTRACT, network.state_dict()))
    return tmp_path / "best.pt"


def rewrite(path: Path, change: Rewrite, compression: int = zipfile.ZIP_STORED) -> None:
    """Change the archive's entries; the checksums are right afterwards."""
    content = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(path, "w", compression) as written:
        for name in archive.namelist():
            written.writestr(name, change(name, archive.read(name)))


def unchanged(name: str, part: bytes) -> bytes:
    return part


def test_a_rewritten_archive_opens(path: Path) -> None:
    rewrite(path, unchanged)
    load_checkpoint(path).build()


def test_a_tensor_larger_than_its_memory_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(7)}, tmp_path / "huge.pt")

    def stretch(name: str, part: bytes) -> bytes:
        """Make the tensor one of 2,000,000,000 elements that all lie at one place."""
        if not name.endswith("data.pkl"):
            return part
        size, stride = part.rindex(b"K\x07"), part.rindex(b"K\x01")
        assert size < stride
        stretched = part[:stride] + b"K\x00" + part[stride + 2 :]
        return stretched[:size] + b"J" + struct.pack("<i", 2_000_000_000) + stretched[size + 2 :]

    rewrite(tmp_path / "huge.pt", stretch)
    assert (tmp_path / "huge.pt").stat().st_size < 2000
    assert torch.load(tmp_path / "huge.pt", weights_only=True)["weights"].shape == (
        2_000_000_000,
    )  # the trap
    with pytest.raises(CheckpointError, match=r"announces \[2000000000\] and holds 28 bytes"):
        load_checkpoint(tmp_path / "huge.pt")


def test_entries_that_inflate_are_refused_unread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(
        path, lambda name, part: bytes(1 << 20) if name.endswith("/data/0") else part, zipfile.ZIP_DEFLATED
    )
    monkeypatch.setattr(zipfile.ZipFile, "testzip", None)
    with pytest.raises(CheckpointError, match="the archive announces"):
        load_checkpoint(path)


def test_compressed_entries_are_refused(path: Path) -> None:
    rewrite(path, lambda name, part: bytes(range(256)) * 8 if name.endswith("/byteorder") else part)
    content = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(path, "w") as written:
        for name in archive.namelist():
            deflated = zipfile.ZIP_DEFLATED if name.endswith("/byteorder") else zipfile.ZIP_STORED
            written.writestr(name, archive.read(name), deflated)
        written.writestr("padding", bytes(4096))
    with pytest.raises(CheckpointError, match="byteorder' compressed"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", [b"builtins\nbytearray", b"torch\nTensor", b"os\nsystem", b"torch\nload"])
def test_a_global_that_no_checkpoint_needs_is_refused_by_name(path: Path, name: bytes) -> None:
    def plant(entry: str, part: bytes) -> bytes:
        return part.replace(b"ccollections\nOrderedDict", b"c" + name) if entry.endswith(".pkl") else part

    rewrite(path, plant)
    with pytest.raises(CheckpointError, match=rf"would run code \('{name.decode().replace(chr(10), '.')}'\)"):
        load_checkpoint(path)


def test_every_opcode_that_can_name_code_is_looked_at() -> None:
    """`GLOBAL` is allowed for some names; the rest can only be refused."""
    naming = {
        code.name for code in pickletools.opcodes if "GLOBAL" in code.name or code.name.startswith("EXT")
    }
    assert naming == {"GLOBAL", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}


def test_a_network_larger_than_its_weights_is_not_built(tmp_path: Path) -> None:
    wide = ResidualConfig(8, (8, 8, 8, 4000), (1, 1, 1, 1), decoder_width=8, detail_width=8)
    save_checkpoint(tmp_path / "wide.pt", Checkpoint("residual", wide, CONTRACT, {}))
    with pytest.raises(CheckpointError, match="expected the weights of its network"):
        load_checkpoint(tmp_path / "wide.pt").build()


def test_a_network_of_countless_blocks_is_not_built(tmp_path: Path) -> None:
    deep = ResidualConfig(8, (8, 8, 8, 8), (1, 1, 1, 10**9), decoder_width=8, detail_width=8)
    save_checkpoint(tmp_path / "deep.pt", Checkpoint("residual", deep, CONTRACT, {}))
    with pytest.raises(CheckpointError, match="1000000000"):
        load_checkpoint(tmp_path / "deep.pt").build()


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"PK" * 100])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "x.pt")


def test_an_archive_that_torch_wrote_passes(path: Path) -> None:
    check_archive(path)


def nested(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


def cycle(kind: str) -> object:
    if kind == "a list in itself":
        items: list[object] = []
        items.append(items)
        return items
    if kind == "a dict in itself":
        table: dict[str, object] = {}
        table["self"] = table
        return table
    if kind == "a ring of three":
        first, second, third = {}, {}, []  # type: ignore[var-annotated]
        first["next"], second["next"] = second, third
        third.append(first)
        return first
    if kind == "a tuple that holds its own list":
        inner: list[object] = []
        inner.append((1, (inner,)))
        return inner
    return nested(40 if kind == "40 levels" else 5000)


@pytest.mark.parametrize("place", ["the whole", "weights", "config", "training", "contract"])
@pytest.mark.parametrize(
    "kind",
    [
        *("a list in itself", "a dict in itself", "a ring of three", "a tuple that holds its own list"),
        *("40 levels", "5000 levels"),
    ],
)
def test_cycles_and_endless_nesting_are_refused(path: Path, kind: str, place: str) -> None:
    content = torch.load(path, weights_only=True)
    strange = cycle(kind)
    if kind == "5000 levels":  # deeper than Python's own pickler goes
        torch.save({**content, place: "here"}, path)
        deep = b"]" * 5000 + b"a" * 4999

        def plant(name: str, part: bytes) -> bytes:
            start = part.find(b"X\x04\x00\x00\x00here") if name.endswith(".pkl") else -1
            return part if start < 0 else part[:start] + deep + part[start + 9 :]

        rewrite(path, plant)
    else:
        torch.save(strange if place == "the whole" else {**content, place: strange}, path)
    with pytest.raises(
        CheckpointError, match=r"best\.pt: .*expected (containers of a few levels|an edgeseg)|damaged"
    ):
        load_checkpoint(path)


def test_a_dict_key_of_a_million_tuples_does_not_overflow_the_stack(path: Path) -> None:
    ways = (b")" + b"\x85" * 10**6, b")" + b"K\x01\x86" * 10**6, b")" + b"\x85q\x07" * 10**6)
    for key in (*ways, b"(" * 10**6 + b"t" * 10**6, b")q\x00" + b"h\x00\x85q\x00" * 10**6):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("best/data.pkl", b"\x80\x02}" + key + b"K\x01s.")
            archive.writestr("best/version", "3\n")
        with pytest.raises(CheckpointError, match="expected containers of a few levels, got more than 100"):
            load_checkpoint(path)


def test_what_is_shared_or_long_is_neither_a_cycle_nor_deep(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    shared: list[object] = [1, 2]
    lattice: object = shared
    for _ in range(20):  # a million ways to the same list
        lattice = [lattice, lattice]
    content["training"] = {"shared": [shared, shared], "long": [[n] for n in range(5000)], "lattice": lattice}
    content["training"]["table"] = {n: (n, [n]) for n in range(5000)}
    torch.save(content, path)
    assert load_checkpoint(path).training is not None


def test_the_error_about_a_strange_format_is_short(tmp_path: Path) -> None:
    torch.save({"format": "x" * 100_000 + "\x1b[31m"}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "a.pt")
    assert len(str(caught.value)) < 500


def test_a_damaged_pickle_is_not_an_advice_to_run_its_code(path: Path) -> None:
    rewrite(path, lambda name, part: part.replace(b"}", b"\x8f", 1) if name.endswith(".pkl") else part)
    with pytest.raises(CheckpointError, match="damaged") as caught:
        load_checkpoint(path)
    assert "weights_only" not in str(caught.value)
