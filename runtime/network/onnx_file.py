"""Reads an ONNX file's own words before onnxruntime does, and refuses what no honest file says.

onnxruntime trusts a file: it follows the paths of external weights, allocates what a tensor announces, and
cannot see that a bit of the weights has flipped. So the file's protobuf is walked here first, without the
onnx package and without copying the weights.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from runtime.base.files import open_regular
from runtime.base.shown import shown
from runtime.errors import ModelLoadError
from runtime.network.graph_walk import ExternalWeights, GraphValue, GraphWalk, text_pair
from runtime.network.protobuf import Field, ProtobufError, bounded, fields

__all__ = ["SEAL_KEY", "GraphValue", "OnnxFile", "content_sha256", "parse_onnx", "read_onnx_file"]

SEAL_KEY = "edgeseg.sha256"
MAX_FILE_BYTES = 2**31 - 1  # protobuf's own limit


@dataclass(frozen=True)
class OnnxFile:
    """A file that may be given to onnxruntime.

    Attributes:
        content: the bytes that were checked; open these, not the path again.
        metadata: the file's `metadata_props`.
        inputs: of the graph, without its constants.
        outputs: of the graph.
        is_sealed: whether the file carries a checksum of itself (and matches it).
        beside: bytes of weights in files beside this one.
    """

    content: bytes
    metadata: dict[str, str]
    inputs: tuple[GraphValue, ...]
    outputs: tuple[GraphValue, ...]
    is_sealed: bool
    beside: int = 0


def read_onnx_file(path: str | Path, *, beside: bool = False) -> OnnxFile:
    """Read and check a file.

    Args:
        path: the file.
        beside: whether its weights may lie in other files of its folder, as torch writes them. These are
            checked to be there, and not read; the runtime takes one whole file only.

    Raises:
        ModelLoadError: a file that is missing, unreadable, damaged or no ONNX file, whose weights lie in
            other files, that announces tensors it does not hold, that would grow or run without bound, or
            that does not match its own checksum.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            content = file.read() if size_bytes <= MAX_FILE_BYTES else b""
    except FileNotFoundError:
        raise ModelLoadError(f"model {path}: expected an ONNX file, found none; check the path") from None
    except OSError as error:
        raise ModelLoadError(f"model {path}: cannot read it ({error.strerror or error}); check it") from None
    if size_bytes > MAX_FILE_BYTES:
        raise ModelLoadError(
            f"model {path}: expected at most {MAX_FILE_BYTES} bytes, as ONNX files have, got {size_bytes}"
        )
    try:
        return parse_onnx(content, path.parent if beside else None)
    except ProtobufError as error:
        inside = "inside or beside it" if beside else "inside"
        raise ModelLoadError(
            f"model {shown(path, 150)}: expected a whole ONNX file with its weights {inside}, but edgeseg "
            f"cannot open it ({shown(error, 200)}); copy it again or export it again"
        ) from None


def parse_onnx(content: bytes, folder: Path | None = None) -> OnnxFile:
    """Check a file's content, see `read_onnx_file`.

    Args:
        content: of the file.
        folder: where weights may lie; None wants them inside.

    Raises:
        ProtobufError: saying what is wrong with it.
    """
    with bounded():
        return _parsed(content, folder)


def _parsed(content: bytes, folder: Path | None) -> OnnxFile:
    view = memoryview(content)
    walk = GraphWalk(takes_external=folder is not None)
    metadata: dict[str, str] = {}
    seals: list[tuple[str, Field]] = []
    graphs: list[Field] = []
    for part in fields(view):
        if part.number == 7:
            graphs.append(part)
        elif part.number == 14:
            key, value = text_pair(part.message)
            if key == SEAL_KEY:
                seals.append((value, part))
            elif key in metadata:
                raise ProtobufError(f"its metadata holds {key!r} twice")
            metadata[key] = value
        elif part.number == 20:
            raise ProtobufError("it holds training information, which no camera needs")
        elif part.number == 25:
            walk.function(part.message)
    if len(graphs) != 1:
        raise ProtobufError(f"expected one graph, got {len(graphs)}")
    if len(seals) > 1:
        raise ProtobufError("it holds more than one checksum of itself")
    for stated, part in seals:  # first of all: a damaged file should be called damaged
        if content_sha256(content, part) != stated:
            raise ProtobufError("its content does not match the checksum inside it: a damaged or edited file")
    walk.graph(graphs[0].message, 0)
    walk.check_shapes()
    walk.check_growth()
    walk.check_rounds()
    walk.check_calls()
    beside_bytes = 0 if folder is None else _check_external(walk.external, folder)
    constants = walk.constants
    return OnnxFile(
        content=content,
        metadata=metadata,
        inputs=tuple(value for value in walk.inputs if value.name not in constants),
        outputs=tuple(walk.outputs),
        is_sealed=bool(seals),
        beside=beside_bytes,
    )


def content_sha256(content: bytes, seal: Field | None = None) -> str:
    """Return the hex SHA-256 of a file without the one field that holds this number."""
    digest = hashlib.sha256()
    view = memoryview(content)
    if seal is None:
        digest.update(view)
    else:
        digest.update(view[: seal.start])
        digest.update(view[seal.end :])
    return digest.hexdigest()


def _check_external(weights: list[ExternalWeights], folder: Path) -> int:
    """Check that weights beside a file are there and nowhere else; return their bytes."""
    sizes: dict[str, int] = {}
    for one in weights:
        if one.location not in sizes:
            place = folder / one.location
            if one.location and place.parent == folder and place.is_symlink():
                raise ProtobufError(
                    f"the weights of {one.tensor!r} are in {one.location!r}, a link that may lead outside of "
                    "its folder, as caches have them; copy the folder with what its links lead to (cp -rL)"
                )
            if not one.location or place.resolve().parent != folder.resolve():
                raise ProtobufError(
                    f"the weights of {one.tensor!r} are in {one.location!r}, outside of its folder"
                )
            if not place.is_file():
                raise ProtobufError(
                    f"the weights of {one.tensor!r} are in {one.location!r}, which is missing"
                )
            sizes[one.location] = place.stat().st_size
        if one.offset < 0 or one.length < 0 or one.offset + one.length > sizes[one.location]:
            raise ProtobufError(
                f"the weights of {one.tensor!r} end at byte {one.offset + one.length} of {one.location!r}, "
                f"which has {sizes[one.location]}"
            )
    total = sum(one.length for one in weights)
    if total > MAX_FILE_BYTES:
        raise ProtobufError(
            f"its weights hold {total / 2**30:.1f} GiB, and one ONNX file holds 2 GiB at most; export it in "
            "float16 or take a smaller network"
        )
    return total
