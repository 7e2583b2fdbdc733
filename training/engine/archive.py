"""What is checked in a checkpoint's zip archive before torch opens it, so that no file can hurt.

`torch.load(weights_only=True)` runs no code, but it believes what an archive says about sizes, inflates
compressed entries of any size, does not compare checksums, and allows more globals than a checkpoint needs.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import Any

import torch

from runtime.errors import CheckpointError

_STORAGES = ("Bool", "Byte", "Char", "Short", "Int", "Long", "Half", "BFloat16", "Float", "Double")
ALLOWED_GLOBALS = frozenset(
    {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
    | {f"torch {storage}Storage" for storage in _STORAGES}
)
MAX_PICKLE_BYTES = 64 << 20  # names and numbers; the weights lie beside it
MAX_ENTRIES = 100_000


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
        _check_globals(path, content)


def check_tensors(path: Path, content: Any) -> None:
    """Refuse tensors that claim more elements than they have in memory, as a stride of 0 makes them.

    Raises:
        CheckpointError: naming the size of such a tensor.
    """
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, torch.Tensor):
            held = value.untyped_storage().nbytes()
            if value.numel() * value.element_size() > held:
                raise CheckpointError(
                    f"{path}: expected tensors that hold all their elements, got one that announces "
                    f"{list(value.shape)} and holds {held} bytes; train again"
                )
        elif isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list | tuple):
            pending.extend(value)


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


def _check_globals(path: Path, content: bytes) -> None:
    """Refuse a pickle that names anything but tensors."""
    try:
        named = [
            str(argument) if opcode.name == "GLOBAL" else opcode.name
            for opcode, argument, _ in pickletools.genops(content)
            if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "EXT1", "EXT2", "EXT4")
        ]
    except Exception as error:  # pickletools has no error of its own
        raise CheckpointError(
            f"{path}: the checkpoint is damaged ({str(error).splitlines()[0] if str(error) else error!r}); "
            "copy it again or train again"
        ) from None
    for name in named:
        if name not in ALLOWED_GLOBALS:
            raise CheckpointError(
                f"{path}: expected tensors and plain values only, got a pickle that would run code "
                f"({name.replace(' ', '.')!r}); do not open it elsewhere, ask its author for a safe one"
            )
