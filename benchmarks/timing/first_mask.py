"""A fresh process up to its first mask, the worker of `benchmarks.timing.cold_start`; not meant to be typed.

Argv: model, height, width, threads (0 for the default), provider, and `time.monotonic_ns()` of the parent
just before it started this process. The frame comes on stdin. Prints one JSON object.
"""

import json
import sys
import time


def main() -> None:
    """Import, open and segment once; tell how long each took, and the memory after it."""
    model, height, width, threads, provider, spawned_ns = sys.argv[1:]
    import_ns = time.monotonic_ns()
    import numpy as np

    from runtime import Segmenter

    imported_ns = time.monotonic_ns()
    pixels = np.frombuffer(sys.stdin.buffer.read(), np.uint8)  # off the clock: a camera has its frame
    frame_bgr = pixels.reshape(int(height), int(width), 3)
    opening_ns = time.monotonic_ns()
    with Segmenter(model, threads=int(threads) or None, provider=provider) as segment:
        opened_ns = time.monotonic_ns()
        mask = segment(frame_bgr).mask
        masked_ns = time.monotonic_ns()

        from benchmarks.machine.processor import resident_mb

        memory_mb, peak_mb = resident_mb()
    marks_ns = {
        "start": import_ns - int(spawned_ns),
        "import": imported_ns - import_ns,
        "open": opened_ns - opening_ns,
        "first mask": masked_ns - opened_ns,
    }
    print(
        json.dumps(
            {
                "stages_ms": {name: ns / 1e6 for name, ns in marks_ns.items()},
                "memory_mb": memory_mb,
                "peak_mb": peak_mb,
                "mask_hw": mask.shape,
            }
        )
    )


if __name__ == "__main__":
    main()
