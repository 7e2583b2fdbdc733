"""What an output is, and the part of the loop that feeds outputs."""

from __future__ import annotations

import dataclasses
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from runtime.base.closing import Closable
from runtime.errors import EdgesegError
from runtime.loop import Step


@runtime_checkable
class Output(Closable, Protocol):
    """Takes every step; a context manager that finishes what it writes, however the block ends."""

    @abstractmethod
    def __call__(self, step: Step) -> None:
        """Take one step.

        Raises:
            OutputError: it cannot be stored; what was stored before stays readable.
        """


def feed(
    steps: Iterable[Step],
    outputs: Sequence[Callable[[Step], object]],
    *,
    on_failure: Callable[[Callable[[Step], object], EdgesegError], object] | None = None,
) -> Iterator[Step]:
    """Call every output with every step, then yield the step.

    Args:
        steps: such as `runtime.loop.run` gives.
        outputs: `Output` objects or any functions that take a step; they stay open.
        on_failure: called with an output that failed and its error; that output gets no more steps, the
            others do. What it raises itself ends the loop. Without it the error does.

    Yields:
        The steps, with the outputs' time as stage "outputs" and counted in "total".

    Raises:
        EdgesegError: whatever steps and, without `on_failure`, outputs raise; every output has the step by
            then.

    Example:
        with open_source("0") as source, Segmenter() as segment:
            for step in feed(run(source, segment), [lambda step: print(step.frame.frame_id)]):
                steer(step.segmentation.mask)
    """
    working = list(outputs)
    for step in steps:
        if not working:
            yield step
            continue
        started_ns = time.monotonic_ns()
        failures: list[tuple[Callable[[Step], object], EdgesegError]] = []
        for output in working:
            try:
                output(step)
            except EdgesegError as error:  # the outputs after it get the step all the same
                failures.append((output, error))
        for output, failure in failures:
            if on_failure is None:
                raise failure
            working.remove(output)
            on_failure(output, failure)
        finished_ns = time.monotonic_ns()
        latency_ms = dict(step.latency_ms)
        before_ms = latency_ms.pop("total")
        took_ms = (finished_ns - started_ns) / 1e6
        yield dataclasses.replace(
            step,
            latency_ms={**latency_ms, "outputs": took_ms, "total": before_ms + took_ms},
            finished_ns=finished_ns,
        )
