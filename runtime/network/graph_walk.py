"""Walks through the protobuf of an ONNX graph and notes what it would make onnxruntime do.

Field numbers are those of `onnx.proto3` (ONNX IR version 13).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from runtime.network.protobuf import ProtobufError, fields

MAX_TENSOR_BYTES = 2**31 - 1  # of an input, an output or a constant that the file announces
MAX_DEPTH = 16  # graphs inside the nodes of graphs
MAX_AXES = 16  # of a tensor; onnxruntime computes with a few
MAX_NODES = 200_000  # with every call of a function inside the file written out
MAX_ROUNDS = 100_000  # of a Loop, those of the Loops around it multiplied
MAX_PAD = 1024  # pixels that a convolution or a pooling adds on one side
_FEW = 2 * MAX_AXES  # numbers of a constant that are kept: what a Pad says of every axis
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
_PADDING = ("AveragePool", "Conv", "ConvInteger", "ConvTranspose", "LpPool", "MaxPool", "QLinearConv")
_SHAPE_INPUT = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}  # operators whose output a constant sizes
# Operators whose output has at least as many elements as each input.
_KEEPING_NAMES = (
    "Abs Add And Cast Ceil Clip Div Elu Equal Erf Exp Floor Greater HardSigmoid HardSwish Identity LeakyRelu "
    "Less Log Max Mean Min Mish Mul Neg Not Or Pow Relu Round Selu Sigmoid Sign Sin Softmax Softplus Sqrt "
    "Squeeze Sub Sum Tanh Transpose Unsqueeze Where Xor"
)
_KEEPING = frozenset(_KEEPING_NAMES.split())


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
class ExternalWeights:
    """Where a tensor says that its numbers lie."""

    tensor: str
    location: str
    offset: int
    length: int


@dataclass(frozen=True)
class _Node:
    """What is kept of a NodeProto."""

    domain: str
    operator: str
    inputs: list[str]
    outputs: list[str]
    pads: list[int]


@dataclass
class GraphWalk:
    """What is collected on the way through the graph and the graphs inside its nodes."""

    takes_external: bool = False
    constants: set[str] = field(default_factory=set)
    inputs: list[GraphValue] = field(default_factory=list)
    outputs: list[GraphValue] = field(default_factory=list)
    shapes: dict[str, list[float]] = field(default_factory=dict)  # small constants by name
    elements: dict[str, float] = field(default_factory=dict)  # of inputs and constants, at least
    nodes: list[_Node] = field(default_factory=list)
    loops: list[tuple[str, ...]] = field(default_factory=list)  # names of rounds, the outermost Loop's first
    functions: dict[tuple[str, str], Counter[tuple[str, str]]] = field(default_factory=dict)  # what they call
    external: list[ExternalWeights] = field(default_factory=list)
    _calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    _around: tuple[str, ...] = ()

    def function(self, message: memoryview) -> None:
        """Check a FunctionProto, and keep what it calls."""
        outer, self._calls = self._calls, Counter()
        kept, self.nodes = self.nodes, []  # names inside are the function's own
        name = domain = ""
        for part in fields(message):
            if part.number == 1:
                name = part.text
            elif part.number == 10:
                domain = part.text
            elif part.number == 7:
                self.node(part.message, 0)
        self.functions[domain, name] = self._calls
        self._calls, self.nodes = outer, kept

    def graph(self, message: memoryview, depth: int) -> None:
        """Check a GraphProto; of the outermost one, keep inputs and outputs."""
        if depth > MAX_DEPTH:
            raise ProtobufError(f"its graphs are nested more than {MAX_DEPTH} deep")
        for part in fields(message):
            if part.number == 1:
                self.node(part.message, depth)
            elif part.number == 5:
                tensor = _tensor(part.message, self.takes_external)
                self._keep_external(tensor)
                self.constants.add(tensor.name)
                self.shapes[tensor.name] = tensor.values
                self.elements[tensor.name] = tensor.elements
            elif part.number in (11, 12):
                value = _graph_value(part.message)
                if depth == 0:
                    (self.inputs if part.number == 11 else self.outputs).append(value)
                    if part.number == 11:
                        sizes = [axis for axis in value.shape or () if isinstance(axis, int)]
                        self.elements.setdefault(value.name, math.prod(max(size, 1) for size in sizes))
            elif part.number == 15:
                raise ProtobufError("it holds sparse weights; save it with dense ones")

    def node(self, message: memoryview, depth: int) -> None:
        """Check a NodeProto: its tensors and graphs."""
        operator = domain = ""
        inputs, outputs, attributes = [], [], []
        pads: list[int] = []
        for part in fields(message):
            if part.number == 1:
                inputs.append(part.text)
            elif part.number == 2:
                outputs.append(part.text)
            elif part.number == 4:
                operator = part.text
            elif part.number == 5:
                attributes.append(part.message)
            elif part.number == 7:
                domain = part.text
        around = self._around
        if operator == "Loop":
            self._around = (*around, inputs[0] if inputs else "")
            self.loops.append(self._around)
        values = [value for attribute in attributes for value in self.attribute(attribute, depth)]
        self._around = around
        if operator == "Pad" or operator in _PADDING:
            pads = [int(number) for one in attributes for number in _numbers_named("pads", one)]
            if operator != "Pad" and max(pads, default=0) > MAX_PAD:
                raise ProtobufError(f"its {operator} pads by {max(pads)} pixels")
        if operator == "Constant" and outputs:
            self.shapes[outputs[0]] = values
        self._calls[domain, operator] += 1
        self.nodes.append(_Node(domain, operator, inputs, outputs, pads))

    def attribute(self, message: memoryview, depth: int) -> list[float]:
        """Check an AttributeProto; return its numbers, if they are few."""
        values: list[float] = []
        for part in fields(message):
            if part.number in (5, 10):
                tensor = _tensor(part.message, self.takes_external)
                self._keep_external(tensor)
                values += tensor.values
            elif part.number in (6, 11):
                self.graph(part.message, depth + 1)
            elif part.number in (3, 8) and len(values) <= _FEW:
                values += part.integers
            elif part.number in (22, 23):
                raise ProtobufError("it holds sparse weights; save it with dense ones")
        return values

    def check_shapes(self) -> None:
        """Refuse constants that a shape in the file would blow up while onnxruntime opens it."""
        for node in self.nodes:
            place = _SHAPE_INPUT.get(node.operator)
            if place is not None and place < len(node.inputs):
                elements = math.prod(self.shapes.get(node.inputs[place], []))
                if elements > MAX_TENSOR_BYTES // 4:
                    raise ProtobufError(f"its {node.operator} makes a tensor of {elements:.0f} elements")

    def check_growth(self) -> None:
        """Refuse chains of Concat, Expand, Pad, Resize and Tile that fill the memory when they run.

        Counts what each tensor holds at least; what other operators make is not followed.
        """
        elements = self.elements
        for node in self.nodes:
            of_inputs = [elements.get(name, 0) for name in node.inputs]
            place = _SHAPE_INPUT.get(node.operator)
            sizes = (
                self.shapes.get(node.inputs[place], [])
                if place is not None and place < len(node.inputs)
                else []
            )
            if node.operator == "Concat":
                count = sum(of_inputs)
            elif node.operator == "Tile":
                count = of_inputs[0] * math.prod(max(size, 0) for size in sizes) if sizes else 0
            elif node.operator == "Pad":
                count = self._padded(node, of_inputs)
            elif node.operator in ("Resize", "Upsample"):
                count = self._resized(node, of_inputs)
            elif node.operator in _SHAPE_INPUT and sizes:
                count = math.prod(max(size, 1) for size in sizes)
            elif node.operator in _KEEPING and not node.domain:
                count = max(of_inputs, default=0)
            else:
                continue
            if count > MAX_TENSOR_BYTES:
                raise ProtobufError(f"its {node.operator} makes a tensor of at least {count:.3g} elements")
            for name in node.outputs[:1]:
                elements[name] = count

    def _padded(self, node: _Node, of_inputs: list[float]) -> float:
        """Return the least elements of a Pad: each axis has one of its own."""
        pads = node.pads or (self.shapes.get(node.inputs[1], []) if len(node.inputs) > 1 else [])
        axes = len(pads) // 2
        least = math.prod(max(1.0, 1 + before + pads[axis + axes]) for axis, before in enumerate(pads[:axes]))
        return max(least, of_inputs[0] if min(pads, default=0) >= 0 else 0)

    def _resized(self, node: _Node, of_inputs: list[float]) -> float:
        """Return the least elements of a Resize to constant sizes, or by constant scales."""
        said = self.shapes.get(node.inputs[-1], [])
        if len(node.inputs) > 3 and node.inputs[3]:
            return math.prod(max(size, 1) for size in said) if said else 0
        return of_inputs[0] * math.prod(said) if min(said, default=0) >= 1 else 0

    def check_rounds(self) -> None:
        """Refuse Loops that nothing in the file ends."""
        for loop in self.loops:
            rounds = 1.0
            for name in loop:
                said = self.shapes.get(name, [])
                if len(said) != 1:
                    raise ProtobufError("it holds a Loop whose number of rounds is no constant")
                rounds *= max(said[0], 1)
            if rounds > MAX_ROUNDS:
                raise ProtobufError(f"it holds a Loop of {rounds:.0f} rounds")

    def check_calls(self) -> None:
        """Refuse functions that call each other into more nodes than any network has."""
        sizes: dict[tuple[str, str], int] = {}
        total = self._written_out(self._calls, sizes, 0)
        if total > MAX_NODES:
            raise ProtobufError(f"its functions make {total:.3g} nodes of it")

    def _written_out(
        self, calls: Counter[tuple[str, str]], sizes: dict[tuple[str, str], int], depth: int
    ) -> int:
        """Return the nodes of a body with every function that it calls written out."""
        if depth > len(self.functions):
            raise ProtobufError("a function in it calls itself")
        total = 0
        for called, times in calls.items():
            if called in self.functions and called not in sizes:
                if depth > 64:
                    raise ProtobufError("its functions are nested more than 64 deep")
                sizes[called] = self._written_out(self.functions[called], sizes, depth + 1)
            total += times * sizes.get(called, 1)
        return total

    def _keep_external(self, tensor: _Tensor) -> None:
        if tensor.external is not None:
            self.external.append(tensor.external)


@dataclass(frozen=True)
class _Tensor:
    """What is kept of a TensorProto: of few int64 or float32 numbers the numbers, too."""

    name: str
    elements: int
    values: list[float]
    external: ExternalWeights | None = None


def _tensor(message: memoryview, takes_external: bool = False) -> _Tensor:
    """Check a TensorProto."""
    dims: list[int] = []
    name, kind, raw_bytes, typed_bytes = "", 0, None, 0
    values: list[float] = []
    is_external = False
    entries: dict[str, str] = {}
    for part in fields(message):
        if part.number == 1:
            dims += part.integers
        elif part.number == 2:
            kind = part.integer
        elif part.number == 8:
            name = part.text
        elif part.number == 9:
            raw_bytes = len(part.message)
            form, size = {7: ("q", 8), 1: ("f", 4)}.get(kind, ("", 1))
            if form and raw_bytes <= size * _FEW and raw_bytes % size == 0:
                values = list(part.message.cast(form)) if raw_bytes else []  # type: ignore[call-overload]
        elif part.number in (4, 5, 6, 7, 10, 11):
            typed_bytes += part.end - part.start
            if part.number == 7 and part.end - part.start <= 10 * _FEW:
                values += part.integers
            elif part.number == 4 and len(part.message) <= 4 * _FEW:
                values += list(part.message.cast("f"))
        elif part.number == 13 or (part.number == 14 and part.integer == _EXTERNAL):
            if not takes_external:
                raise ProtobufError(
                    f"the weights of {name or 'a tensor'!r} are in another file, expected them inside"
                )
            is_external = True
            if part.number == 13:
                entries.update([text_pair(part.message)])
    if kind not in _ELEMENT_BITS:
        raise ProtobufError(f"tensor {name!r} has the unknown element type {kind}")
    if len(dims) > MAX_AXES:
        raise ProtobufError(f"tensor {name!r} has {len(dims)} axes, expected at most {MAX_AXES}")
    if any(dim < 0 for dim in dims):
        raise ProtobufError(f"tensor {name!r} announces the shape {dims}")
    elements = math.prod(dims)
    needed = -(-elements * _ELEMENT_BITS[kind] // 8)
    if is_external:
        return _Tensor(name, elements, [], _external(name, needed, entries))
    if raw_bytes is not None:
        if needed != raw_bytes:
            raise ProtobufError(f"tensor {name!r} announces {needed} bytes as {dims} and holds {raw_bytes}")
    # Typed data is stored as numbers of at least one byte each, which may hold two 4-bit elements.
    elif elements > 2 * typed_bytes:
        raise ProtobufError(
            f"tensor {name!r} announces {elements} elements as {dims} and holds {typed_bytes} bytes"
        )
    return _Tensor(name, elements, values)


def _numbers_named(name: str, message: memoryview) -> list[int]:
    """Return the integers of an AttributeProto of this name; none of another."""
    parts = list(fields(message))
    if not any(part.number == 1 and part.text == name for part in parts):
        return []
    return [number for part in parts if part.number == 8 for number in part.integers]


def _external(name: str, needed: int, entries: dict[str, str]) -> ExternalWeights:
    """Read where a tensor's numbers lie."""
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", needed))
    except ValueError:
        raise ProtobufError(f"tensor {name!r} says no number of bytes in its other file") from None
    if length != needed:
        raise ProtobufError(f"tensor {name!r} needs {needed} bytes and has {length} in its other file")
    return ExternalWeights(name, entries.get("location", ""), offset, length)


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
    if len(shape or ()) > MAX_AXES:
        raise ProtobufError(f"{name!r} has {len(shape or ())} axes, expected at most {MAX_AXES}")
    # Some tools write -1 for a size that is chosen at run time.
    shape = shape and tuple(None if axis == -1 else axis for axis in shape)
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


def text_pair(message: memoryview) -> tuple[str, str]:
    """Read a StringStringEntryProto."""
    pair = {1: "", 2: ""}
    for part in fields(message):
        if part.number in pair:
            pair[part.number] = part.text
    return pair[1], pair[2]
