"""Damaged variants of files: the same ones for the same seed."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np

from runtime.network.onnx_file import SEAL_KEY, content_sha256
from runtime.network.protobuf import fields
from tests.fuzz.seeds import SEED_TARGETS, seeds

KINDS = ("flip", "truncate", "splice")
MAX_FLIPS = 8
MAX_SPLICE_BYTES = 4096
STRUCTURE_BYTES = 16_384  # names, sizes and shapes lie at both ends of a file, the weights between them


@dataclass(frozen=True)
class Originals:
    """Whole files to damage.

    Attributes:
        checkpoint: a .pt file's content.
        model: a contract-carrying ONNX file's content.
        contract: a contract's JSON.
    """

    checkpoint: bytes
    model: bytes
    contract: bytes


def damaged(originals: Originals, target: str, index: int, seed: int) -> bytes:
    """Return the variant of a target, one of `TARGETS`, with this index."""
    rng = np.random.default_rng((seed, TARGETS.index(target), index))
    if target in SEED_TARGETS:
        whole = seeds(target)
        return _damage(whole[index % len(whole)], KINDS[index // len(whole) % len(KINDS)], rng)
    kind = KINDS[index % len(KINDS)]
    if target == "checkpoint":
        return _damage(originals.checkpoint, kind, rng)
    if target == "pickle":
        return _with_damaged_pickle(originals.checkpoint, kind, rng)
    if target == "onnx":
        return _damage(sealed(unsealed(originals.model)), kind, rng)
    if target == "graph":
        return sealed(_damage(unsealed(originals.model), kind, rng))
    return _damage(originals.contract, kind, rng)


# "pickle" and "graph" get the right checksums after the damage, as somebody who means harm would do.
OWN_TARGETS = ("checkpoint", "pickle", "onnx", "graph", "contract")
TARGETS = (*OWN_TARGETS, *SEED_TARGETS)


def unsealed(content: bytes) -> bytes:
    """Return an ONNX file without the checksum of itself."""
    key = SEAL_KEY.encode()
    kept = [
        content[part.start : part.end]
        for part in fields(memoryview(content))
        if not (part.number == 14 and key in bytes(part.message))
    ]
    return b"".join(kept)


def sealed(content: bytes) -> bytes:
    """Return an ONNX file without a checksum with the right one at its end."""
    entry = b"".join(
        bytes([number << 3 | 2, len(text)]) + text.encode()
        for number, text in ((1, SEAL_KEY), (2, content_sha256(content)))
    )
    return content + bytes([14 << 3 | 2, len(entry)]) + entry


def _damage(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    if kind == "truncate":
        return content[: rng.integers(len(content))]
    damaged = bytearray(content)
    if kind == "flip":
        for _ in range(rng.integers(1, MAX_FLIPS + 1)):
            damaged[_place(len(content), rng)] ^= 1 << rng.integers(8)
        return bytes(damaged)
    start, place = _place(len(content), rng), _place(len(content), rng)
    piece = content[start : start + rng.integers(1, MAX_SPLICE_BYTES)]
    replaced = rng.choice([0, len(piece)])
    damaged[place : place + replaced] = piece
    return bytes(damaged)


def _place(size: int, rng: np.random.Generator) -> int:
    """Return a place in a file, half of the time where it describes itself."""
    if size > 2 * STRUCTURE_BYTES and rng.random() < 0.5:
        place = int(rng.integers(2 * STRUCTURE_BYTES))
        return place if place < STRUCTURE_BYTES else size - 1 - (place - STRUCTURE_BYTES)
    return int(rng.integers(size))


def _with_damaged_pickle(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Return a checkpoint whose archive is whole, and whose names and sizes are not."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(written, "w") as damaged:
        for name in archive.namelist():
            part = archive.read(name)
            damaged.writestr(name, _damage(part, kind, rng) if name.endswith(".pkl") else part)
    return written.getvalue()
