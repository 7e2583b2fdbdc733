"""What all outputs on the disk share: one run at a time, segments, a pause, and the room that is left."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from runtime.base.lock import only_run_on
from runtime.outputs.output import Output, Stream, cannot_write
from runtime.outputs.segments import FreeSpace, SegmentOptions, Segments


class DiskOutput(Output):
    """An output into a file or folder, which is locked from `open` to `close`.

    Of a camera or stream, or where the options say so, a file is cut into segments.

    Attributes:
        path: the file, of segments what their names are made from, or the folder.
        is_regular: whether it is no pipe or device; known once open.
    """

    def __init__(
        self, path: str | Path, options: SegmentOptions | None = None, *, locked: Path | None = None
    ) -> None:
        """Choose the file or folder.

        Args:
            path: see `path`.
            options: length and retention of segments; None for what is never cut.
            locked: what one run at a time may write; None for the path.
        """
        self.path = Path(path)
        self._options = options
        self._locked = locked or self.path
        self._lock = ExitStack()
        self.is_regular = False
        self._segments: Segments | None = None
        self._space: FreeSpace | None = None

    @property
    def name(self) -> str:
        """The file or folder."""
        return str(self.path)

    @property
    def can_pause(self) -> bool:
        """Whether it writes segments, so that another one can begin after a pause."""
        return self._segments is not None

    def facts(self) -> Mapping[str, int | str]:
        """Files that retention removed, and the bytes that are left on the disk."""
        segments, space = self._segments, self._space
        facts = {} if segments is None else {"removed": segments.removed}
        free = None if space is None else space.bytes
        return facts if free is None else {**facts, "free_bytes": free}

    def open(self, stream: Stream) -> None:
        """Lock it, and get ready for segments where it is cut.

        Raises:
            ConfigError: another run writes it.
            OutputError: its folder cannot be made or read.
        """
        self.is_regular = self._locked.is_file() or not self._locked.exists()
        if not self.is_regular:  # several may write to a pipe
            # What a shell made with | has no name, and nobody can read it once its reader went away.
            self.can_reopen = Path(os.path.realpath(self.path)).exists()
            return
        self._lock.enter_context(only_run_on(self._locked))
        self._space = self._space or FreeSpace(self._locked.absolute().parent)
        if self._options is not None and (stream.source.live or self._options.segment_s is not None):
            try:
                segments = Segments(self.path, self._options)
            except OSError as error:
                raise cannot_write(self.path, error) from None
            segments.removed = 0 if self._segments is None else self._segments.removed
            self._segments = segments

    def close(self) -> None:
        """Let others write it; called last."""
        self._lock.close()
