"""Which file runs how: the flags that every command about a model shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.base.flags import check_fields, flag
from runtime.network.session import MAX_THREADS, PROVIDERS
from runtime.segmenter import Segmenter, model_path


@dataclass(frozen=True)
class ModelOptions:
    """A model file and what onnxruntime gets to run it."""

    model: Path | None = flag(
        "ONNX file of export.to_onnx, or bundled name", default=None, unset="the bundled s"
    )
    threads: int | None = flag(
        "worker threads of the network",
        default=None,
        unset="physical cores, at most 4",
        at_least=1,
        at_most=MAX_THREADS,
    )
    provider: str = flag("execution provider", default="cpu", choices=sorted(PROVIDERS))

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)

    @property
    def file(self) -> Path:
        """The model's file; a bundled one where none or its name is given."""
        return model_path(self.model)

    def open(
        self,
        *,
        size_hw: tuple[int, int] | None = None,
        spin: bool = False,
        provider_options: Mapping[str, str] | None = None,
        confidence: bool = False,
        unknown_below: float | None = None,
        steady: bool = False,
    ) -> Segmenter:
        """Open the file; the rest is as of `Segmenter`.

        Raises:
            EdgesegError: as `Segmenter`.
        """
        return Segmenter(
            self.file,
            size_hw=size_hw,
            threads=self.threads,
            spin=spin,
            provider=self.provider,
            provider_options=provider_options,
            confidence=confidence,
            unknown_below=unknown_below,
            steady=steady,
        )
