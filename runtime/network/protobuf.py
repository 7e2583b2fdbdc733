"""A reader for the protobuf wire format that never reads past the end and allocates nothing announced.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
MAX_TEXT_BYTES = 16 << 20
MAX_NUMBERS = 2_000_000  # tags, lengths and integers read of one file, which takes seconds; ours have 8,000
_left: ContextVar[list[int] | None] = ContextVar("left", default=None)


class ProtobufError(ValueError):
    """Bytes that are not what they should be; the message says what."""


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        number: as in the .proto file.
        value: the integer of a varint, else the bytes.
        start: where the field, its tag included, starts in the message's bytes.
        end: one past its last byte.
    """

    number: int
    value: int | memoryview
    start: int
    end: int

    @property
    def message(self) -> memoryview:
        """The bytes of a submessage, a text or packed numbers."""
        if isinstance(self.value, int):
            raise ProtobufError(f"field {self.number} is a number, expected bytes")
        return self.value

    @property
    def text(self) -> str:
        """The text of a string field."""
        if len(self.message) > MAX_TEXT_BYTES:
            raise ProtobufError(f"field {self.number} is a text of {len(self.message)} bytes")
        try:
            return str(self.message, "utf-8")
        except UnicodeDecodeError:
            raise ProtobufError(f"field {self.number} is not UTF-8 text") from None

    @property
    def integer(self) -> int:
        """The signed 64-bit integer of a varint field."""
        if not isinstance(self.value, int):
            raise ProtobufError(f"field {self.number} is bytes, expected a number")
        return self.value

    @property
    def integers(self) -> list[int]:
        """The numbers of a repeated varint field, packed or not."""
        return [self.value] if isinstance(self.value, int) else packed_varints(self.value)


@contextmanager
def bounded() -> Iterator[None]:
    """Let the block, which reads one file, read no more than `MAX_NUMBERS`."""
    before = _left.set([MAX_NUMBERS])
    try:
        yield
    finally:
        _left.reset(before)


def fields(message: memoryview) -> Iterator[Field]:
    """Yield a message's fields in the order of its bytes.

    Raises:
        ProtobufError: bytes that are no protobuf message.
    """
    place, size = 0, len(message)
    while place < size:
        start = place
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        value: int | memoryview
        if number < 1:
            raise ProtobufError("it is no protobuf file: a field has no number")
        if wire == _VARINT:
            value, place = _varint(message, place)
        elif wire in (_BYTES, _FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
            if wire == _BYTES:
                length, place = _varint(message, place)
            if not 0 <= length <= size - place:
                raise ProtobufError(f"a field announces {length} bytes where {size - place} are left")
            value = message[place : place + length]
            place += length
        else:
            raise ProtobufError(f"it is no protobuf file: a field has the unknown wire type {wire}")
        yield Field(number, value, start, place)


def packed_varints(message: memoryview) -> list[int]:
    """Return signed 64-bit integers that are packed into one field.

    Raises:
        ProtobufError: bytes that end within a number.

    >>> packed_varints(memoryview(bytes([3, 172, 2])))
    [3, 300]
    """
    numbers, place = [], 0
    while place < len(message):
        number, place = _varint(message, place)
        numbers.append(number)
    return numbers


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return the signed 64-bit integer at a place, and the place after it."""
    value, left = 0, _left.get()
    if left is not None:
        left[0] -= 1
        if left[0] < 0:
            raise ProtobufError(f"it has more than {MAX_NUMBERS} fields and integers, more than any network")
    for index in range(10):
        if place + index >= len(message):
            raise ProtobufError("the file ends within a number")
        byte = message[place + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            value &= 0xFFFF_FFFF_FFFF_FFFF
            return value - (1 << 64) if value >> 63 else value, place + index + 1
    raise ProtobufError("it is no protobuf file: a number has more than ten bytes")
