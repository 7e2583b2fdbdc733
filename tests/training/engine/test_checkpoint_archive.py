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
from training.engine.checkpoint import Checkpoint, check_archive, load_checkpoint, save_checkpoint
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
