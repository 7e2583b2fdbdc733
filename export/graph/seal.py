"""Seals a graph with a checksum of the whole file, by which the runtime sees every flipped bit."""

from __future__ import annotations

import onnx

from runtime.network.onnx_file import SEAL_KEY, content_sha256


def seal(model: onnx.ModelProto) -> None:
    """Write the checksum of everything else into `metadata_props`; changes the graph in place.

    It must be the last change before the file is saved, with its weights inside. An older checksum is
    replaced.
    """
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != SEAL_KEY]
    del model.metadata_props[:]
    for key, value in kept:
        model.metadata_props.add(key=key, value=value)
    # Protobuf writes fields in the order of their numbers, so the file minus this one entry is these bytes.
    checksum = content_sha256(model.SerializeToString())
    model.metadata_props.add(key=SEAL_KEY, value=checksum)
