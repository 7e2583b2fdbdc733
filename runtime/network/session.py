"""An ONNX file opened in onnxruntime: contract read, graph compared with it, provider confirmed."""

from __future__ import annotations

import ctypes
import logging
import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.base.shown import shown
from runtime.contract import METADATA_KEY, ModelContract
from runtime.errors import ConfigError, ContractError, FrameError, ModelLoadError, ProviderError
from runtime.frame import Image
from runtime.network.onnx_file import GraphValue, read_onnx_file

logger = logging.getLogger(__name__)

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
MAX_DEFAULT_THREADS = 4
MAX_FOLDED_BYTES = 64 << 20
MAX_THREADS = 256  # onnxruntime would start any number, until the machine has no memory left


_sessions: weakref.WeakSet[NetworkSession] = weakref.WeakSet()


class NetworkSession:
    """A network of edgeseg, ready to run, in the process that opened it.

    Calls from several threads are safe, since onnxruntime's `run` is; they share the worker threads.

    Attributes:
        contract: what the file says about itself.
        provider: short name of the execution provider that onnxruntime granted.
        threads: worker threads of one run.
        is_forked: whether this is a forked child's copy, which has no worker threads and cannot run.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        spin: bool = False,
        provider: str = "cpu",
        provider_options: Mapping[str, str] | None = None,
    ) -> None:
        """Open a file.

        Args:
            path: ONNX file written by `python -m export.to_onnx`.
            threads: worker threads of one run; None takes `default_threads()`.
            spin: whether the threads stay busy while they wait for work.
            provider: one of `PROVIDERS`.
            provider_options: the provider's own options by onnxruntime's names, such as
                `{"device_type": "GPU"}` for openvino.

        Raises:
            ConfigError: a number of threads outside 1 to 256.
            ProviderError: a provider that is unknown, not in this onnxruntime, not granted, or not as asked
                for.
            ModelLoadError: a file that is missing or that onnxruntime cannot open.
            ContractError: a file without a contract, or whose graph does not fit its contract.
        """
        path = Path(path)
        self.threads = default_threads() if threads is None else threads
        self.provider = provider
        options = session_options(self.threads, spin=spin)
        ort_provider = _available(provider)
        if provider != "cpu":
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        wanted = dict(provider_options or {})
        if wanted and provider == "cpu":
            raise ProviderError(
                f"provider cpu: expected no options, since onnxruntime ignores them, got {_pairs(wanted)}; "
                "leave them out; the number of threads has a setting of its own"
            )
        file = read_onnx_file(path)
        self.contract = _read_contract(file.metadata, path)
        _check_graph({"inputs": file.inputs}, self.contract, path)  # before any memory is planned for them
        try:
            self._session = ort.InferenceSession(
                file.content,  # the bytes that were checked
                options,
                providers=[(ort_provider, wanted), *([] if provider == "cpu" else [PROVIDERS["cpu"]])],
                enable_fallback=0,  # it would print, and try once more on the processor
            )
        except Exception as error:  # onnxruntime's errors have no common base class
            if provider != "cpu":
                raise ProviderError(
                    f"provider {provider}: onnxruntime cannot open {path} with it and the options "
                    f"{_pairs(wanted) or '(none)'} ({_one_line(error)}); correct them, or choose provider cpu"
                ) from error
            raise ModelLoadError(
                f"model {path}: expected a whole ONNX file with its weights inside, but onnxruntime cannot "
                f"open it ({_one_line(error)}); export it again"
            ) from error
        granted = self._session.get_providers()
        if granted[0] != ort_provider:
            raise ProviderError(
                f"provider {provider}: asked onnxruntime for {ort_provider}, got {granted[0]}; install the "
                "provider's own libraries, check its options and its device, or choose provider cpu"
            )
        if provider != "cpu":
            self._confirm_nodes(ort_provider)
        # Not every provider reports its options; those that do not refuse the ones they do not know.
        reported = self._session.get_provider_options().get(ort_provider, {})
        refused = {
            name: reported[name]
            for name, value in wanted.items()
            if name in reported and not _same(reported[name], value)
        }
        if refused:
            raise ProviderError(
                f"provider {provider}: asked for {_pairs({name: wanted[name] for name in refused})}, got "
                f"{_pairs(refused)}; choose what the device offers, or leave it out"
            )
        graph = {"inputs": self._session.get_inputs(), "outputs": self._session.get_outputs()}
        _check_graph(graph, self.contract, path)
        self.is_forked = False
        _sessions.add(self)
        self._run_options = ort.RunOptions()
        output = self.contract.output
        self._run_options.only_execute_path_to_fetches = output.kind == "both" or bool(output.features)

    def _confirm_nodes(self, ort_provider: str) -> None:
        """Refuse a provider that was granted and runs nothing; tell of one that runs a part."""
        if not hasattr(self._session, "get_provider_graph_assignment_info"):  # onnxruntime before 1.24
            return
        parts = self._session.get_provider_graph_assignment_info()
        its = sum(len(part.get_nodes()) for part in parts if part.ep_name == ort_provider)
        all_nodes = sum(len(part.get_nodes()) for part in parts)
        if all_nodes and not its:
            raise ProviderError(
                f"provider {self.provider}: granted, but the processor runs all {all_nodes} nodes of model "
                f"{self.contract.name}; give it a file that it can run, such as one in float32, or choose "
                "provider cpu"
            )
        if its < all_nodes:
            logger.warning(
                "provider %s runs %d of %d nodes, the processor the others", self.provider, its, all_nodes
            )

    def run(self, images_bgr: Image) -> NDArray[np.float32]:
        """Return the logits.

        Args:
            images_bgr: uint8 (H, W, 3), or (N, H, W, 3) if the file takes batches, of a size it takes.

        Returns:
            float32 (N, C, H / stride, W / stride), N being 1 for a single image.

        Raises:
            ContractError: the file gives no logits.
            FrameError: images of a size or number that the file does not take.
            ModelLoadError: a graph that opens but cannot be computed.
        """
        output = self.contract.output
        if not output.has_logits:
            raise ContractError(
                f"model {self.contract.name}: expected logits, its file gives a mask only; use run_mask, or "
                "export it with --output logits"
            )
        logits: NDArray[np.float32] = self._run([output.name], images_bgr)[0]
        return logits

    def run_mask(self, images_bgr: Image) -> Image:
        """Return the masks that the graph makes itself, at the images' size.

        Args:
            images_bgr: as for `run`.

        Returns:
            uint8 (N, H, W) class indices, N being 1 for a single image.

        Raises:
            ContractError: the file gives no mask, or one of classes that the contract does not name.
            FrameError: images of a size or number that the file does not take.
            ModelLoadError: a graph that opens but cannot be computed.
        """
        output = self.contract.output
        if not output.has_mask:
            raise ContractError(
                f"model {self.contract.name}: expected a mask, its file gives logits only; use "
                "runtime.network.mask.class_mask on them, or export it with --output mask"
            )
        masks: Image = self._run([output.mask_name], images_bgr)[0]
        if masks.max() >= len(self.contract.classes):  # ten microseconds; a palette would only show black
            self._check_classes(masks)
        return masks

    def _check_classes(self, masks: Image) -> None:
        """Refuse class indices that no name stands for; the ignore index is void."""
        classes = self.contract.classes
        wrong = masks[(masks >= len(classes)) & (masks != classes.ignore_index)]
        if wrong.size:
            raise ContractError(
                f"model {self.contract.name}: expected class indices 0 to {len(classes) - 1}, or "
                f"{classes.ignore_index} for void, the network gave {int(wrong[0])}; name all of its classes"
            )

    def run_features(self, images_bgr: Image) -> tuple[NDArray[np.float32], ...]:
        """Return what layers inside say, from fine to coarse; empty for a file without features.

        Args:
            images_bgr: as for `run`.

        Returns:
            Each float32 (1, F, h, w), of mean 0 and, over all channels, deviation 1 where the file was made.

        Raises:
            FrameError: images of a size or number that the file does not take.
            ModelLoadError: a graph that opens but cannot be computed.
        """
        names = [its.name for its in self.contract.output.features]
        return tuple(self._run(names, images_bgr)) if names else ()

    def check_process(self) -> None:
        """Make sure that this is the process that opened the file.

        Raises:
            ConfigError: it is a forked child.
        """
        if self.is_forked:
            raise ConfigError(
                f"model {self.contract.name}: expected the process that opened it, got a fork of it, "
                "where its threads are not; open a Segmenter in each process, or start processes by spawn"
            )

    def _run(self, output_names: Sequence[str], images_bgr: Image) -> list[NDArray[Any]]:
        """Compute some outputs, and nothing that only the others need."""
        self.check_process()
        batch = images_bgr[None] if images_bgr.ndim == 3 else images_bgr  # (N, H, W, 3)
        described = self.contract.input
        if (
            batch.ndim != 4
            or not described.accepts((batch.shape[1], batch.shape[2]))
            or not (len(batch) == 1 or (described.is_dynamic and len(batch)))
        ):
            number = "any number of images" if described.is_dynamic else "one image"
            raise FrameError(
                f"model {self.contract.name}: expected {number} of {described.accepted_sizes}, got shape "
                f"{images_bgr.shape}; resize with runtime.network.resize.fit_image, or export with --imgsz "
                "or --dynamic"
            )
        try:
            outputs: list[NDArray[Any]] = self._session.run(
                output_names, {described.name: batch}, self._run_options
            )
        except Exception as error:  # onnxruntime's errors have no common base class
            raise ModelLoadError(
                f"model {self.contract.name}: onnxruntime opened the file but cannot compute it "
                f"({_one_line(error)}); export it again"
            ) from error
        return outputs


def _after_fork() -> None:
    """Keep the sessions in a child for ever: ending one would wait for threads that are not there."""
    for session in tuple(_sessions):
        session.is_forked = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session._session))
    # onnxruntime's own end waits for a thread too. The handler that is registered last runs first: it ends
    # the process with its exit code, after all that Python does at its end.
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):  # of glibc
        libc.on_exit(libc._exit, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def session_options(threads: int, *, spin: bool = False) -> ort.SessionOptions:
    """Return the options that all of edgeseg's sessions are opened with.

    Raises:
        ConfigError: a number of threads outside 1 to 256.
    """
    if not 1 <= threads <= MAX_THREADS:
        raise ConfigError(
            f"threads: expected 1 to {MAX_THREADS}, got {threads}; leave it out for {default_threads()}"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # The lower levels take up to four times as long. Keeping the optimized graph in a file, or binding inputs
    # and outputs beforehand, was measured too: it saves 10 ms once, and nothing a frame.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Worker threads that spin between runs make the network no faster, but in a paced loop they burn twice
    # the processor time (52 against 23 ms a frame on two cores) and slow capture and drawing by half.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    # What a few constants make of themselves stays a computation: a file of 1 KB that expands them to 10 GB
    # opens in no time. Folding helps small tensors only.
    options.add_session_config_entry(
        "optimization.constant_folding_max_output_size_in_bytes", str(MAX_FOLDED_BYTES)
    )
    options.log_severity_level = 3  # errors only; what stops a load or a run is raised anyway
    return options


def default_threads() -> int:
    """Return the physical cores that this process may use, at most 4.

    A second thread on a core shares its vector units, and past four threads a network this small waits
    for its threads more than it gains.
    """
    allowed = (
        sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    cores = {_core_of(cpu) for cpu in allowed}
    return min(len(cores), MAX_DEFAULT_THREADS)


def _core_of(cpu: int) -> str:
    """Return a name that two hardware threads of one core share."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
    except OSError:  # not Linux, or a container that hides it
        return str(cpu)


def _available(provider: str) -> str:
    """Return onnxruntime's name of a provider that this build of onnxruntime holds."""
    if provider not in PROVIDERS:
        raise ProviderError(f"provider: expected one of {', '.join(PROVIDERS)}, got {provider!r}")
    available = ort.get_available_providers()
    if PROVIDERS[provider] not in available:
        here = [name for name, ort_name in PROVIDERS.items() if ort_name in available]
        raise ProviderError(
            f"provider {provider}: this onnxruntime {ort.__version__} offers {', '.join(here)}; install the "
            "onnxruntime package built with it, or choose one of these"
        )
    return PROVIDERS[provider]


def _pairs(options: Mapping[str, str]) -> str:
    """Return options as they are written after --provider-option."""
    return ", ".join(f"{name}={value}" for name, value in options.items())


def _same(reported: str, wanted: str) -> bool:
    """Compare an option's value with what was asked for; providers write true as 1, True or true."""
    plain = {"true": "1", "false": "0"}
    return plain.get(reported.lower(), reported.lower()) == plain.get(wanted.lower(), wanted.lower())


def _read_contract(metadata: dict[str, str], path: Path) -> ModelContract:
    """Return the contract in the file's metadata."""
    if METADATA_KEY not in metadata:
        raise ContractError(
            f"model {path}: expected a contract in its metadata ({METADATA_KEY}), found none; "
            "make the file with export.to_onnx, or of another tool's file with export.adapt"
        )
    try:
        return ModelContract.from_json(metadata[METADATA_KEY])
    except ContractError as error:
        raise ContractError(f"model {path}: {error}") from None


def _check_graph(
    graph: Mapping[str, Sequence[GraphValue | ort.NodeArg]], contract: ModelContract, path: Path
) -> None:
    """Compare a graph's "inputs" or "outputs", or both, with what the contract says."""
    image, output = contract.input, contract.output
    batch, height, width = (None, None, None) if image.is_dynamic else (1, *image.size_hw)
    classes, (rows, columns) = (
        len(contract.classes),
        (None, None) if image.is_dynamic else contract.logits_shape[2:],
    )
    logits = _Value(output.name, "tensor(float)", (batch, classes, rows, columns))
    mask = _Value(output.mask_name, "tensor(uint8)", (batch, height, width))
    expected = {
        "inputs": [_Value(image.name, f"tensor({image.dtype})", (batch, height, width, 3))],
        "outputs": [
            *([logits] if output.has_logits else []),
            *([mask] if output.has_mask else []),
            *(_Value(its.name, "tensor(float)", (batch, *its.shape)) for its in output.features),
        ],
    }
    for side, values in graph.items():
        found = _values(values)
        if found != expected[side]:
            raise ContractError(
                f"model {path}: its contract promises {side} {_signature(expected[side])}, its graph has "
                f"{_signature(found) or 'none'}; export it again"
            )


class _Value(NamedTuple):
    """An input or output of a graph; None is a size that is chosen at run time."""

    name: str
    kind: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.kind} [{sizes}]"


def _values(nodes: Sequence[GraphValue | ort.NodeArg]) -> list[_Value]:
    """Return a graph's inputs or outputs; onnxruntime gives free sizes as names."""
    return [
        _Value(
            node.name, node.type, tuple(size if isinstance(size, int) else None for size in node.shape or ())
        )
        for node in nodes
    ]


def _signature(values: list[_Value]) -> str:
    """Return inputs or outputs as text, such as `image tensor(uint8) [1, 352, 480, 3]`."""
    return ", ".join(map(str, values))


def _one_line(error: Exception) -> str:
    """Return a library's error fit for one line of a message."""
    return shown(error, 300)
