"""Checks a checkpoint's archive before and after torch opens it.

`torch.load(weights_only=True)` runs no code, but it believes what an archive says about sizes, inflates
compressed entries of any size, does not compare checksums, allows more globals than a checkpoint needs, and
follows any nesting until Python's stack overflows.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import Any

import torch

from runtime.base.shown import shown
from runtime.errors import CheckpointError

_STORAGES = ("Bool", "Byte", "Char", "Short", "Int", "Long", "Half", "BFloat16", "Float", "Double")
ALLOWED_GLOBALS = frozenset(
    {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
    | {f"torch {storage}Storage" for storage in _STORAGES}
)
MAX_PICKLE_BYTES = 64 << 20  # names and numbers; the weights lie beside it
MAX_ENTRIES = 100_000
MAX_NESTING, MAX_PICKLE_NESTING = 32, 100  # a pickle spends several levels on a tensor
_MARK = -1
_GROWING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
_CONTAINERS = (dict, list, tuple, set, frozenset)


def check_archive(path: Path) -> None:
    """Check sizes, checksums and the pickle's globals of a file that `torch.save` wrote.

    Raises:
        CheckpointError: a file that is damaged, announces more bytes than it has, or would run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(path, archive.infolist())
            damaged = archive.testzip()
            pickles = [name for name in archive.namelist() if name.endswith(".pkl")]
            contents = [archive.read(name) for name in pickles] if damaged is None else []
    # The zip reader has many ways to stumble over damaged headers, among them struct.error and
    # UnicodeDecodeError; an encrypted entry is a RuntimeError.
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, ArithmeticError, LookupError):
        raise CheckpointError(
            f"{path}: expected a checkpoint written by training.train, got a file that is damaged or of "
            "another kind; copy it again or train again"
        ) from None
    if damaged is not None:
        raise CheckpointError(
            f"{path}: the checkpoint is damaged (wrong checksum of {damaged!r}); copy it again or train again"
        )
    for content in contents:
        _check_pickle(path, content)


def check_tensors(path: Path, content: Any) -> None:
    """Refuse tensors that claim more elements than they have in memory, as a stride of 0 makes them.

    Raises:
        CheckpointError: naming the size of such a tensor, or containers that hold themselves or are nested
            deeper than any training nests them, which what reads them next would follow without end.
    """
    finished: set[int] = set()  # what is held in several places is walked once

    def walk(value: Any, above: tuple[int, ...]) -> None:
        if isinstance(value, torch.Tensor):
            held = value.untyped_storage().nbytes()
            if value.numel() * value.element_size() > held:
                raise CheckpointError(
                    f"{path}: expected tensors that hold all their elements, got one that announces "
                    f"{list(value.shape)} and holds {held} bytes; train again"
                )
        elif isinstance(value, _CONTAINERS) and id(value) not in finished:
            if id(value) in above or len(above) >= MAX_NESTING:
                found = "one that holds itself" if id(value) in above else f"more than {MAX_NESTING} levels"
                raise CheckpointError(
                    f"{path}: expected containers of a few levels, got {found}; the file is damaged or made "
                    "to hang its reader: train again"
                )
            for item in [*value, *value.values()] if isinstance(value, dict) else value:
                walk(item, (*above, id(value)))
            finished.add(id(value))

    walk(content, ())


def _check_sizes(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse an archive that would take more memory than the file has bytes."""
    size_bytes = path.stat().st_size
    announced = sum(entry.file_size for entry in entries)
    if announced > size_bytes:
        raise CheckpointError(
            f"{path}: expected weights of at most the file's {size_bytes} bytes, the archive announces "
            f"{announced}; the file is damaged or made to fill the memory: copy it again or train again"
        )
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise CheckpointError(
            f"{path}: expected uncompressed entries as torch.save writes them, got {packed[0]!r} compressed; "
            "train again"
        )
    pickles = sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl"))
    if len(entries) > MAX_ENTRIES or pickles > MAX_PICKLE_BYTES:
        raise CheckpointError(
            f"{path}: expected at most {MAX_ENTRIES} tensors and {MAX_PICKLE_BYTES} bytes of names, got "
            f"{len(entries)} and {pickles}; train again"
        )


def _check_pickle(path: Path, content: bytes) -> None:
    """Refuse a pickle that names anything but tensors, or nests so deep that Python dies of it."""
    nesting = _Nesting()
    named, deepest = set(), 0
    try:
        for opcode, argument, _ in pickletools.genops(content):
            deepest = max(deepest, nesting.after(opcode, argument))
            if deepest > MAX_PICKLE_NESTING:
                break
            if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "EXT1", "EXT2", "EXT4"):
                named.add(str(argument) if opcode.name == "GLOBAL" else opcode.name)
    except Exception as error:  # pickletools has no error of its own
        raise CheckpointError(
            f"{path}: the checkpoint is damaged ({shown(error or repr(error), 200)}); copy it again or train "
            "again"
        ) from None
    for name in sorted(named - ALLOWED_GLOBALS):
        raise CheckpointError(
            f"{path}: expected tensors and plain values only, got a pickle that would run code "
            f"({shown(name.replace(' ', '.'), 80)!r}); do not open it elsewhere, ask its author for a safe "
            "one"
        )
    if deepest > MAX_PICKLE_NESTING:
        raise CheckpointError(
            f"{path}: expected containers of a few levels, got more than {MAX_PICKLE_NESTING}; the file is "
            "damaged or made to crash its reader: train again"
        )


class _Nesting:
    """Follows how deep a pickle's values are nested, without making them.

    Python compares and hashes tuples in C, level by level, and a million levels overflow its stack.
    """

    def __init__(self) -> None:
        """Start with an empty stack and memo."""
        self._stack: list[int] = []
        self._memo: dict[int, int] = {}

    def after(self, opcode: pickletools.OpcodeInfo, argument: Any) -> int:
        """Return the depth of what an opcode leaves on the stack; a damaged pickle is a LookupError."""
        stack, name, before = self._stack, opcode.name, opcode.stack_before
        if name.endswith("PUT") or name == "MEMOIZE":
            self._memo[len(self._memo) if argument is None else int(argument)] = stack[-1]
            return 0
        if name.endswith("GET"):
            stack.append(self._memo[int(argument)])
            return 0
        below = before.index(pickletools.markobject) if pickletools.markobject in before else None
        taken: list[int] = []
        if below is not None:
            while (depth := stack.pop()) != _MARK:
                taken.append(depth)
        bases = [stack.pop() for _ in before[:below]]
        if name in _GROWING:  # what grows keeps its own depth, however often it grows
            if below is None:
                taken, bases = bases[:-1], bases[-1:]
            left = max([*bases, *(1 + depth for depth in taken)])
        else:
            left = max((1 + depth for depth in (*taken, *bases)), default=0)
        stack += [_MARK if kind is pickletools.markobject else left for kind in opcode.stack_after]
        return left
