"""From a frozen dataclass to a command line: a field holds its default, unit, range and help, once.

    @dataclass(frozen=True)
    class Options:
        frames: int = flag("frames that count", default=100, at_least=1)
        deadline_ms: float = flag("age from which a mask is late", default=33.3, above=0, unit="ms")
        model: Path | None = flag("ONNX file", default=None, unset="the bundled one")

        def __post_init__(self) -> None:
            check_fields(self)

`run_command` makes `--frames`, `--deadline-ms` and `--model` of it and hands an `Options` to the command. A
field's annotation decides how its text is read: `int`, `float`, `str`, `Path`, `bool` (a switch; `--no-x`
where its default is true), `Literal` (choices), `tuple[int, int]` or `tuple[float, Path]` (two values),
`tuple[str, ...]` (any number), each also with `| None`. A field whose type is itself such a dataclass is
made with `nested`; its fields become flags of the same command.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from runtime.base.command import exit_code, make_parser
from runtime.errors import ConfigError

Options = TypeVar("Options")
_KEY = "edgeseg"


@dataclass(frozen=True)
class _Flag:
    """What a field says of itself beyond its default and its type."""

    help: str
    unit: str
    at_least: float | None
    above: float | None
    at_most: float | None
    below: float | None
    choices: Collection[Any] | None
    names: tuple[str, ...]
    metavar: str | tuple[str, ...] | None
    parse: Callable[[str], Any] | None
    show: Callable[[Any], str]
    unset: str
    group: str | None
    repeated: bool
    if_bare: Any

    def range(self) -> str:
        """Return the range in words, "" where every value is allowed."""
        low = (
            f"at least {self.at_least:g}"
            if self.at_least is not None
            else f"above {self.above:g}"
            if self.above is not None
            else ""
        )
        high = (
            f"at most {self.at_most:g}"
            if self.at_most is not None
            else f"below {self.below:g}"
            if self.below is not None
            else ""
        )
        if self.at_least is not None and self.at_most is not None:
            return f"from {self.at_least:g} to {self.at_most:g}"
        return " and ".join(part for part in (low, high) if part)

    def bound(self) -> str:
        """Return the range as it follows "a number"."""
        words = self.range()
        return f"of {words}" if words.startswith("at ") else words

    def holds(self, value: float) -> bool:
        """Whether a number is in the range; infinities and NaN never are where there is one."""
        if not self.range():
            return True
        return (
            math.isfinite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )


@dataclass(frozen=True)
class _Nested:
    """A field whose own fields are flags of the same command."""

    without: frozenset[str]
    group: str | None


def flag(
    help: str,
    *,
    default: Any = MISSING,
    unit: str = "",
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    choices: Collection[Any] | None = None,
    name: str | Sequence[str] = (),
    metavar: str | tuple[str, ...] | None = None,
    parse: Callable[[str], Any] | None = None,
    show: Callable[[Any], str] = str,
    unset: str = "",
    group: str | None = None,
    repeated: bool = False,
    if_bare: Any = None,
    secret: bool = False,
) -> Any:
    """Return a dataclass field that is also a flag.

    Args:
        help: what it is for, without default, unit and range, which are added.
        default: without it the flag is required.
        unit: of the number, such as ms.
        at_least: lowest value allowed; of a tuple, of each number.
        above: the value that it must exceed.
        at_most: highest value allowed.
        below: the value that it must stay under.
        choices: names or numbers allowed; `Literal` says so by itself.
        name: the flag's spelling where it is not the field's, several with the short one first; a name
            without dashes makes a positional argument.
        metavar: what stands for the value in the help.
        parse: from text to value, where the type alone does not tell; raises ValueError.
        show: from the default to its text in the help.
        unset: what a default of None stands for, such as "the bundled model", for the help.
        group: heading in the help.
        repeated: whether the flag may be given several times; its values become a tuple.
        if_bare: value of the flag given without one; None if it always needs one.
        secret: whether its value must not show in the dataclass's `repr`.
    """
    described = _Flag(
        help=help,
        unit=unit,
        at_least=at_least,
        above=above,
        at_most=at_most,
        below=below,
        choices=choices,
        names=(name,) if isinstance(name, str) else tuple(name),
        metavar=metavar,
        parse=parse,
        show=show,
        unset=unset,
        group=group,
        repeated=repeated,
        if_bare=if_bare,
    )
    return dataclasses.field(default=default, repr=not secret, metadata={_KEY: described})


def nested(
    settings: type[Any] | Callable[[], Any], *, without: Iterable[str] = (), group: str | None = None
) -> Any:
    """Return a field that holds another dataclass, whose fields become flags too.

    Args:
        settings: the class or a function that makes an instance; what it makes holds the flags' defaults. A
            class with required fields has no instance to start from and must be given itself.
        without: fields that get no flag and keep their defaults.
        group: heading in the help of those that have none.
    """
    metadata = {_KEY: _Nested(frozenset(without), group)}
    if isinstance(settings, type) and _required(settings):
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default_factory=settings, metadata=metadata)


def check_fields(settings: Any) -> None:
    """Refuse a value outside of its field's range or choices; for `__post_init__`.

    Raises:
        ConfigError: names the field, what is expected and what it got.
    """
    for field, described, kind in _flags_of(type(settings)):
        value = getattr(settings, field.name)
        if value is None:
            continue
        values = value if isinstance(value, tuple) else (value,)
        choices = described.choices or _choices(kind)
        for one in values:
            if choices and one not in choices:
                raise ConfigError(f"{field.name}: expected one of {', '.join(map(str, choices))}, got {one}")
            if isinstance(one, int | float) and not isinstance(one, bool) and not described.holds(one):
                unit = f" {described.unit}" if described.unit else ""
                got = " ".join(map(str, values))
                raise ConfigError(f"{field.name}: expected a number {described.bound()}{unit}, got {got}")


def add_flags(parser: argparse.ArgumentParser, settings: type[Any]) -> None:
    """Add one flag for each field."""
    _Builder(parser).add(settings, None, "", None, frozenset())


def options_of(settings: type[Options], given: argparse.Namespace) -> Options:
    """Return the dataclass that parsed flags fill.

    Raises:
        ConfigError: what the dataclass refuses.
    """
    return _filled(settings, vars(given), "", None)  # type: ignore[no-any-return]


def run_command(
    module: str,
    description: str,
    settings: type[Options],
    command: Callable[[Options], None],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse, call, and return the exit code: all that a command's `main` does.

    Args:
        module: the command's own, such as `benchmarks.latency`.
        description: one sentence for the help.
        settings: frozen dataclass whose fields are made by `flag` and `nested`.
        command: does the work; what it raises becomes the exit code, see `exit_code`.
        argv: arguments; None for the process's own.
    """
    parser = make_parser(module, description)
    add_flags(parser, settings)
    given = parser.parse_args(argv)
    return exit_code(lambda: command(options_of(settings, given)))


def described_values(settings: Any) -> Iterator[tuple[str, Any, str]]:
    """Yield name, value and help of every flag of an instance, those of nested ones too.

    For whoever sets the same values in another way than by a command line, such as ROS's parameters.
    """
    hints = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        described, value = field.metadata.get(_KEY), getattr(settings, field.name)
        if isinstance(described, _Nested):
            yield from (one for one in described_values(value) if one[0] not in described.without)
        elif described is not None:
            yield field.name, value, _help(described, hints[field.name], MISSING).replace("%%", "%")


def with_values(settings: Options, values: Mapping[str, Any]) -> Options:
    """Return an instance with other values by name, as `described_values` yields them.

    Raises:
        ConfigError: what the dataclass refuses.
    """
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        if isinstance(field.metadata.get(_KEY), _Nested):
            changes[field.name] = with_values(getattr(settings, field.name), values)
        elif field.name in values:
            changes[field.name] = values[field.name]
    return dataclasses.replace(settings, **changes)  # type: ignore[type-var]


def _required(settings: type[Any]) -> bool:
    """Whether a dataclass has a field without a default."""
    return any(
        field.default is MISSING and field.default_factory is MISSING
        for field in dataclasses.fields(settings)
    )


def _flags_of(settings: type[Any]) -> Iterable[tuple[dataclasses.Field[Any], _Flag, Any]]:
    """Yield the fields that are flags, with their types."""
    hints = get_type_hints(settings)
    for field in dataclasses.fields(settings):
        described = field.metadata.get(_KEY)
        if isinstance(described, _Flag):
            yield field, described, hints[field.name]


def _choices(kind: Any) -> Collection[Any] | None:
    """Return the names that a `Literal` allows."""
    kind = _without_none(kind)
    return get_args(kind) if get_origin(kind) is Literal else None


def _without_none(kind: Any) -> Any:
    """Return X of X | None."""
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (one for one in get_args(kind) if one is not types.NoneType)
    return kind


class _Builder:
    """Adds a dataclass's flags to a parser, under the headings that they name."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser
        self._groups: dict[str, argparse._ArgumentGroup] = {}

    def add(
        self,
        settings: type[Any],
        defaults: Any,
        prefix: str,
        group: str | None,
        without: Collection[str],
    ) -> None:
        """Add the fields of one dataclass; `defaults` is an instance whose values replace its own."""
        hints = get_type_hints(settings)
        for field in dataclasses.fields(settings):
            described = field.metadata.get(_KEY)
            if described is None or field.name in without:
                continue
            default = getattr(defaults, field.name) if defaults is not None else _default(field)
            if isinstance(described, _Nested):
                instance = None if default is MISSING else default
                heading = described.group or group
                self.add(hints[field.name], instance, f"{prefix}{field.name}.", heading, described.without)
            else:
                self._add_flag(field.name, described, hints[field.name], default, prefix, group)

    def _add_flag(
        self, name: str, described: _Flag, kind: Any, default: Any, prefix: str, group: str | None
    ) -> None:
        kind = _without_none(kind)
        names = described.names or (f"--{'no-' if default is True else ''}{name.replace('_', '-')}",)
        settings: dict[str, Any] = {"help": _help(described, kind, default)}
        if names[0].startswith("-"):
            settings |= {"dest": prefix + name, "required": default is MISSING}
        else:
            names, settings["metavar"] = (prefix + name,), described.metavar or names[0]
            if default is not MISSING:
                settings["nargs"] = "?"
        # The dataclass holds it; only a positional that is left out would be given SUPPRESS as its value.
        settings["default"] = default if "nargs" in settings else argparse.SUPPRESS
        if kind is bool:
            settings["action"] = "store_false" if default is True else "store_true"
        else:
            settings = _value(names[-1], described, kind) | settings
        heading = described.group or group
        target: Any = self._parser
        if heading is not None and names[0].startswith("-"):
            if heading not in self._groups:
                self._groups[heading] = self._parser.add_argument_group(heading)
            target = self._groups[heading]
        target.add_argument(*names, **settings)


def _default(field: dataclasses.Field[Any]) -> Any:
    """Return a field's default, MISSING where it is required."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _value(name: str, described: _Flag, kind: Any) -> dict[str, Any]:
    """Return what argparse needs to read a flag's values."""
    settings: dict[str, Any] = {}
    one = kind
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        one = parts[0]
        several = parts[-1] is Ellipsis
        if described.repeated:
            settings["action"] = "append"
            if get_origin(one) is tuple and described.parse is None:
                settings["nargs"] = len(get_args(one))
                one = get_args(one)[0]
        elif several:
            settings["nargs"] = "+"
        elif described.parse is None:
            settings["nargs"] = len(parts)
            if len(set(parts)) > 1:
                settings["action"], one = _reading_each(parts), str
    choices = described.choices or _choices(one)
    if choices:
        settings["choices"] = list(choices)
        if not isinstance(settings["choices"][0], str):
            settings["type"] = _reader(type(settings["choices"][0]))
    else:
        settings["type"] = _reader(described.parse or one)
    if described.metavar is not None:
        settings["metavar"] = described.metavar
    elif not choices:
        settings["metavar"] = name.lstrip("-").replace("-", "_").upper()
    if described.if_bare is not None:
        settings |= {"nargs": "?", "const": described.if_bare}
    return settings


def _reading_each(kinds: Sequence[Callable[[str], Any]]) -> type[argparse.Action]:
    """Return the action of a flag whose values differ in kind, such as seconds and a folder."""

    class ReadingEach(argparse.Action):
        def __call__(
            self, parser: argparse.ArgumentParser, given: argparse.Namespace, values: Any, _: Any = None
        ) -> None:
            try:
                read = [_reader(kind)(text) for kind, text in zip(kinds, values, strict=True)]
            except argparse.ArgumentTypeError as error:
                raise argparse.ArgumentError(self, str(error)) from None
            setattr(given, self.dest, read)

    return ReadingEach


def _reader(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a function from text to value whose refusals argparse shows as they are."""
    kinds: Mapping[Any, str] = {int: "a whole number", float: "a number"}

    def value(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            said = f"expected {kinds[read]}, got {text!r}" if read in kinds else str(error)
            raise argparse.ArgumentTypeError(said) from None

    return value


def _help(described: _Flag, kind: Any, default: Any) -> str:
    """Return the help's text with unit, range and default."""
    facts = [part for part in (described.unit, described.range()) if part]
    if kind is not bool and default is not None and default is not MISSING and default not in ((), ""):
        shown = default if isinstance(default, tuple) and described.show is str else (default,)
        facts.append(f"default: {' '.join(described.show(one) for one in shown)}")
    elif described.unset:
        facts.append(f"default: {described.unset}")
    text = f"{described.help} ({', '.join(facts)})" if facts else described.help
    return text.replace("%", "%%")


def _filled(settings: type[Any], given: Mapping[str, Any], prefix: str, defaults: Any) -> Any:
    """Return an instance of the values that were given, and of the defaults for all others."""
    hints = get_type_hints(settings)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        described, name = field.metadata.get(_KEY), prefix + field.name
        default = getattr(defaults, field.name) if defaults is not None else _default(field)
        if isinstance(described, _Nested):
            instance = None if default is MISSING else default
            values[field.name] = _filled(hints[field.name], given, f"{name}.", instance)
        elif name in given:
            values[field.name] = _as_tuples(given[name])
        elif default is not MISSING:
            values[field.name] = default
    filled = settings(**values)
    check_fields(filled)
    return filled


def _as_tuples(value: Any) -> Any:
    """Return lists as tuples, since a frozen dataclass holds nothing that changes."""
    return tuple(_as_tuples(one) for one in value) if isinstance(value, list) else value
