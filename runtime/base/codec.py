"""Frozen dataclasses to plain JSON values and back, checked field by field."""

from __future__ import annotations

import dataclasses
import math
import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from runtime.base.shown import well_formed

T = TypeVar("T")


class DecodeError(ValueError):
    """A plain value that does not have the shape of the dataclass it should become."""


def to_plain(value: Any) -> Any:
    """Return `value` with dataclasses as dicts and tuples as lists, ready for `json.dumps`.

    Lone surrogates, as of a path that is not UTF-8, are escaped: no JSON may hold them.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return well_formed(value) if isinstance(value, str) else value


def from_plain(kind: type[T], value: Any, where: str = "") -> T:
    """Build the dataclass `kind` from the plain value that `to_plain` made of it.

    Fields with a default may be absent; unknown fields are refused. Integers pass for floats, nothing
    else is converted.

    Raises:
        DecodeError: naming the field by its path, the expected type and what was found.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Size:
    ...     hw: tuple[int, int]
    >>> from_plain(Size, {"hw": [352, 480]})
    Size(hw=(352, 480))
    >>> from_plain(Size, {"hw": [352]})
    Traceback (most recent call last):
    ...
    runtime.base.codec.DecodeError: hw: expected 2 items, got 1
    """
    decoded: T = _decode(kind, value, where)
    return decoded


def _decode(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    if origin is Literal:
        if value not in arguments:
            raise DecodeError(f"{where}: expected one of {list(arguments)}, got {value!r}")
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (kind,) = (argument for argument in arguments if argument is not type(None))
        return _decode(kind, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise DecodeError(f"{where}: expected a list, got {type(value).__name__}")
        if arguments[-1] is Ellipsis:
            return tuple(_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(value) != len(arguments):
            raise DecodeError(f"{where}: expected {len(arguments)} items, got {len(value)}")
        return tuple(
            _decode(argument, item, f"{where}[{i}]")
            for i, (argument, item) in enumerate(zip(arguments, value, strict=True))
        )
    if origin is dict:
        if not isinstance(value, dict):
            raise DecodeError(f"{where}: expected an object, got {type(value).__name__}")
        return {
            _decode(arguments[0], key, where): _decode(arguments[1], item, f"{where}.{key}")
            for key, item in value.items()
        }
    return _decode_scalar(kind, value, where)


def _decode_scalar(kind: type, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise DecodeError(f"{where}: expected a finite number, got {len(str(value))} digits") from None
    if type(value) is not kind:  # bool is an int, but not a size
        raise DecodeError(f"{where}: expected {kind.__name__}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise DecodeError(f"{where}: expected a finite number, got {value!r}")
    return value


def _decode_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise DecodeError(f"{where or kind.__name__}: expected an object, got {type(value).__name__}")
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    prefix = f"{where}." if where else ""
    unknown = sorted(set(value) - set(fields), key=str)
    if unknown:
        raise DecodeError(f"{prefix}{unknown[0]}: unknown field; expected one of {sorted(fields)}")
    required = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in value]
    if missing:
        raise DecodeError(f"{prefix}{missing[0]}: missing")
    return kind(**{name: _decode(hints[name], item, f"{prefix}{name}") for name, item in value.items()})
