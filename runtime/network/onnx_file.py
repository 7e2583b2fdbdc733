"""Reads an ONNX file's own words before onnxruntime does, and refuses what no honest file says.

onnxruntime trusts a file: it follows the paths of external weights, allocates what a tensor announces, and
cannot see that a bit of the weights has flipped. So the file's protobuf is walked here first, without the
onnx package and without copying the weights. Field numbers are those of `onnx.proto3` (ONNX IR version 13).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from runtime.errors import ModelLoadError
from runtime.network.protobuf import Field, ProtobufError, fields

SEAL_KEY = "edgeseg.sha256"
MAX_FILE_BYTES = 2**31 - 1  # protobuf's own limit
MAX_TENSOR_BYTES = 2**31 - 1  # of an input, an output or a constant that the file announces
MAX_DEPTH = 16  # graphs inside the nodes of graphs
_EXTERNAL = 1  # TensorProto.DataLocation
# Bits of an element by TensorProto.DataType; a string (8) has none of its own.
_ELEMENT_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 8: 0, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64}
_ELEMENT_BITS |= {14: 64, 15: 128, 16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8}
_TYPE_NAMES = {
    1: "float",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "double",
}
_SHAPE_INPUT = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}  # operators whose output a constant sizes


@dataclass(frozen=True)
class GraphValue:
    """An input or output as the file declares it.

    Attributes:
        name: of the value.
        type: as onnxruntime writes it, such as `tensor(uint8)`; empty where none is declared.
        shape: a number, a name or None (unknown) for each axis; None without any shape.
    """

    name: str
    type: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class OnnxFile:
    """A file that may be given to onnxruntime.

    Attributes:
        content: the bytes that were checked; open these, not the path again.
        metadata: the file's `metadata_props`.
        inputs: of the graph, without its constants.
        outputs: of the graph.
        is_sealed: whether the file carries a checksum of itself (and matches it).
    """

    content: bytes
    metadata: dict[str, str]
    inputs: tuple[GraphValue, ...]
    outputs: tuple[GraphValue, ...]
    is_sealed: bool


def read_onnx_file(path: str | Path) -> OnnxFile:
    """Read and check a file.

    Raises:
        ModelLoadError: a file that is missing, unreadable, damaged or no ONNX file, whose weights lie in
            other files, that announces tensors it does not hold, or that does not match its own checksum.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelLoadError(f"model {path}: expected an ONNX file, found none; check the path")
    try:
        size_bytes = path.stat().st_size
        content = path.read_bytes() if size_bytes <= MAX_FILE_BYTES else b""
    except OSError as error:
        raise ModelLoadError(f"model {path}: cannot read it ({error.strerror or error}); check it") from None
    if size_bytes > MAX_FILE_BYTES:
        raise ModelLoadError(
            f"model {path}: expected at most {MAX_FILE_BYTES} bytes, as ONNX files have, got {size_bytes}"
        )
    try:
        return parse_onnx(content)
    except ProtobufError as error:
        raise ModelLoadError(
            f"model {path}: expected a whole ONNX file with its weights inside, but edgeseg cannot open it "
            f"({error}); copy it again or export it again"
        ) from None


def parse_onnx(content: bytes) -> OnnxFile:
    """Check a file's content, see `read_onnx_file`.

    Raises:
        ProtobufError: saying what is wrong with it.
    """
    view = memoryview(content)
    walk = _Walk()
    metadata: dict[str, str] = {}
    seals: list[tuple[str, Field]] = []
    graphs: list[Field] = []
    for part in fields(view):
        if part.number == 7:
            graphs.append(part)
        elif part.number == 14:
            key, value = _text_pair(part.message)
            if key == SEAL_KEY:
                seals.append((value, part))
            elif key in metadata:
                raise ProtobufError(f"its metadata holds {key!r} twice")
            metadata[key] = value
        elif part.number == 20:
            raise ProtobufError("it holds training information, which no camera needs")
        elif part.number == 25:
            walk.each(part.message, {7: walk.node}, 0)
    if len(graphs) != 1:
        raise ProtobufError(f"expected one graph, got {len(graphs)}")
    if len(seals) > 1:
        raise ProtobufError("it holds more than one checksum of itself")
    for stated, part in seals:  # first of all: a damaged file should be called damaged
        if content_sha256(content, part) != stated:
            raise ProtobufError("its content does not match the checksum inside it: a damaged or edited file")
    walk.graph(graphs[0].message, 0)
    walk.check_shapes()
    constants = walk.constants
    return OnnxFile(
        content=content,
        metadata=metadata,
        inputs=tuple(value for value in walk.inputs if value.name not in constants),
        outputs=tuple(walk.outputs),
        is_sealed=bool(seals),
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


@dataclass
class _Walk:
    """What is collected on the way through the graph and the graphs inside its nodes."""

    constants: set[str] = field(default_factory=set)
    inputs: list[GraphValue] = field(default_factory=list)
    outputs: list[GraphValue] = field(default_factory=list)
    shapes: dict[str, list[int]] = field(default_factory=dict)  # small integer constants by name
    sized: list[tuple[str, str]] = field(default_factory=list)  # operator, constant that sizes its output

    def each(
        self, message: memoryview, visitors: dict[int, Callable[[memoryview, int], object]], depth: int
    ) -> None:
        """Visit the fields of a message that have a visitor."""
        for part in fields(message):
            if part.number in visitors:
                visitors[part.number](part.message, depth)

    def graph(self, message: memoryview, depth: int) -> None:
        """Check a GraphProto; of the outermost one, keep inputs and outputs."""
        if depth > MAX_DEPTH:
            raise ProtobufError(f"its graphs are nested more than {MAX_DEPTH} deep")
        for part in fields(message):
            if part.number == 1:
                self.node(part.message, depth)
            elif part.number == 5:
                name, values = _tensor(part.message)
                self.constants.add(name)
                self.shapes[name] = values
            elif part.number in (11, 12):
                value = _graph_value(part.message)
                if depth == 0:
                    (self.inputs if part.number == 11 else self.outputs).append(value)
            elif part.number == 15:
                raise ProtobufError("it holds sparse weights; save it with dense ones")

    def node(self, message: memoryview, depth: int) -> None:
        """Check a NodeProto: its tensors and graphs."""
        operator, inputs, outputs, values = "", [], [], []
        for part in fields(message):
            if part.number == 1:
                inputs.append(part.text)
            elif part.number == 2:
                outputs.append(part.text)
            elif part.number == 4:
                operator = part.text
            elif part.number == 5:
                values += self.attribute(part.message, depth)
        if operator == "Constant" and outputs:
            self.shapes[outputs[0]] = values
        place = _SHAPE_INPUT.get(operator)
        if place is not None and place < len(inputs):
            self.sized.append((operator, inputs[place]))

    def attribute(self, message: memoryview, depth: int) -> list[int]:
        """Check an AttributeProto; return its integers, if they are few."""
        values: list[int] = []
        for part in fields(message):
            if part.number in (5, 10):
                values += _tensor(part.message)[1]
            elif part.number in (6, 11):
                self.graph(part.message, depth + 1)
            elif part.number == 8 and len(values) <= 8:
                values += part.integers
            elif part.number in (22, 23):
                raise ProtobufError("it holds sparse weights; save it with dense ones")
        return values

    def check_shapes(self) -> None:
        """Refuse constants that a shape in the file would blow up while onnxruntime opens it."""
        for operator, name in self.sized:
            elements = math.prod(self.shapes.get(name, []))
            if elements > MAX_TENSOR_BYTES // 4:
                raise ProtobufError(f"its {operator} makes a tensor of {elements} elements")


def _tensor(message: memoryview) -> tuple[str, list[int]]:
    """Check a TensorProto; return its name and, of at most eight int64 values, the values."""
    dims: list[int] = []
    name, kind, raw_bytes, typed_bytes = "", 0, None, 0
    values: list[int] = []
    for part in fields(message):
        if part.number == 1:
            dims += part.integers
        elif part.number == 2:
            kind = part.integer
        elif part.number == 8:
            name = part.text
        elif part.number == 9:
            raw_bytes = len(part.message)
            if kind == 7 and raw_bytes <= 64 and raw_bytes % 8 == 0:
                values = list(part.message.cast("q")) if raw_bytes else []
        elif part.number in (4, 5, 6, 7, 10, 11):
            typed_bytes += part.end - part.start
            if part.number == 7 and part.end - part.start <= 80:
                values += part.integers
        elif part.number == 13 or (part.number == 14 and part.integer == _EXTERNAL):
            raise ProtobufError(
                f"the weights of {name or 'a tensor'!r} are in another file, expected them inside"
            )
    if kind not in _ELEMENT_BITS:
        raise ProtobufError(f"tensor {name!r} has the unknown element type {kind}")
    if any(dim < 0 for dim in dims):
        raise ProtobufError(f"tensor {name!r} announces the shape {dims}")
    needed = -(-math.prod(dims) * _ELEMENT_BITS[kind] // 8)
    if raw_bytes is not None:
        if needed != raw_bytes:
            raise ProtobufError(f"tensor {name!r} announces {needed} bytes as {dims} and holds {raw_bytes}")
    # Typed data is stored as numbers of at least one byte each, which may hold two 4-bit elements.
    elif math.prod(dims) > 2 * typed_bytes:
        raise ProtobufError(
            f"tensor {name!r} announces {math.prod(dims)} elements as {dims} and holds {typed_bytes} bytes"
        )
    return name, values


def _graph_value(message: memoryview) -> GraphValue:
    """Read a ValueInfoProto and check that its shape can be held."""
    name, kind, shape = "", 0, None
    for part in fields(message):
        if part.number == 1:
            name = part.text
        elif part.number == 2:
            for inner in fields(part.message):
                if inner.number == 1:
                    kind, shape = _tensor_type(inner.message)
    type_name = f"tensor({_TYPE_NAMES.get(kind, kind)})" if kind else ""
    numbers = [axis for axis in shape or () if isinstance(axis, int)]
    if any(axis < 0 for axis in numbers):
        raise ProtobufError(f"{name!r} announces the shape {list(shape or ())}")
    if math.prod(numbers) * _ELEMENT_BITS.get(kind, 8) // 8 > MAX_TENSOR_BYTES:
        raise ProtobufError(f"{name!r} announces the shape {list(shape or ())}, more than any frame needs")
    return GraphValue(name, type_name, shape)


def _tensor_type(message: memoryview) -> tuple[int, tuple[int | str | None, ...] | None]:
    """Read a TypeProto.Tensor."""
    kind, shape = 0, None
    for part in fields(message):
        if part.number == 1:
            kind = part.integer
        elif part.number == 2:
            shape = tuple(_axis(axis.message) for axis in fields(part.message) if axis.number == 1)
    return kind, shape


def _axis(message: memoryview) -> int | str | None:
    """Read a TensorShapeProto.Dimension."""
    for part in fields(message):
        if part.number == 1:
            return part.integer
        if part.number == 2:
            return part.text
    return None


def _text_pair(message: memoryview) -> tuple[str, str]:
    """Read a StringStringEntryProto."""
    pair = {1: "", 2: ""}
    for part in fields(message):
        if part.number in pair:
            pair[part.number] = part.text
    return pair[1], pair[2]
