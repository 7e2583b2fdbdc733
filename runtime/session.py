"""An ONNX file opened in onnxruntime: contract read, graph compared with it, provider confirmed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.contract import METADATA_KEY, ModelContract
from runtime.errors import ConfigError, ContractError, ModelLoadError, ProviderError
from runtime.frame import Image

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
MAX_THREADS = 256  # onnxruntime would start any number, until the machine has no memory left


class NetworkSession:
    """A network of edgeseg, ready to run.

    Calls from several threads are safe, since onnxruntime's `run` is; they share the worker threads.

    Attributes:
        contract: what the file says about itself.
        provider: short name of the execution provider that onnxruntime granted.
        threads: worker threads of one run.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None, provider: str = "cpu") -> None:
        """Open a file.

        Args:
            path: ONNX file written by `python -m export.to_onnx`.
            threads: worker threads of one run; None takes `default_threads()`.
            provider: one of `PROVIDERS`.

        Raises:
            ConfigError: a number of threads outside 1 to 256.
            ProviderError: a provider that is unknown, not in this onnxruntime, or not granted.
            ModelLoadError: a file that is missing or that onnxruntime cannot open.
            ContractError: a file without a contract, or whose graph does not fit its contract.
        """
        path = Path(path)
        self.threads = default_threads() if threads is None else threads
        self.provider = provider
        options = session_options(self.threads)
        ort_provider = _available(provider)
        if not path.is_file():
            raise ModelLoadError(f"model {path}: expected an ONNX file, found none; check the path")
        try:
            self._session = ort.InferenceSession(
                str(path), options, providers=list(dict.fromkeys([ort_provider, PROVIDERS["cpu"]]))
            )
        except Exception as error:  # onnxruntime's errors have no common base class
            raise ModelLoadError(
                f"model {path}: expected a whole ONNX file with its weights inside, but onnxruntime cannot "
                f"open it ({_one_line(error)}); export it again"
            ) from error
        granted = self._session.get_providers()
        if granted[0] != ort_provider:
            raise ProviderError(
                f"provider {provider}: asked onnxruntime for {ort_provider}, got {granted[0]}; install the "
                "provider's own libraries, or choose provider cpu"
            )
        self.contract = _read_contract(self._session, path)
        _check_graph(self._session, self.contract, path)

    def run(self, image_bgr: Image) -> NDArray[np.float32]:
        """Return the logits, float32 (1, C, h, w), of an image that has the input's size, uint8 (H, W, 3)."""
        contract = self.contract
        (logits,) = self._session.run([contract.output.name], {contract.input.name: image_bgr[None]})
        return logits  # type: ignore[no-any-return]


def session_options(threads: int) -> ort.SessionOptions:
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
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Worker threads that spin between runs make the network no faster, but in a paced loop they burn twice
    # the processor time (52 against 23 ms a frame on two cores) and slow capture and drawing by half.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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


def _read_contract(session: ort.InferenceSession, path: Path) -> ModelContract:
    """Return the contract in the file's metadata."""
    metadata = session.get_modelmeta().custom_metadata_map
    if METADATA_KEY not in metadata:
        raise ContractError(
            f"model {path}: expected a contract in its metadata ({METADATA_KEY}), found none; "
            "make the file with python -m export.to_onnx"
        )
    try:
        return ModelContract.from_json(metadata[METADATA_KEY])
    except ContractError as error:
        raise ContractError(f"model {path}: {error}") from None


def _check_graph(session: ort.InferenceSession, contract: ModelContract, path: Path) -> None:
    """Compare the graph's inputs and outputs with what the contract says."""
    height, width = contract.input.size_hw
    expected = {
        "inputs": [(contract.input.name, f"tensor({contract.input.dtype})", [1, height, width, 3])],
        "outputs": [(contract.output.name, "tensor(float)", list(contract.logits_shape))],
    }
    found = {
        "inputs": [(value.name, value.type, value.shape) for value in session.get_inputs()],
        "outputs": [(value.name, value.type, value.shape) for value in session.get_outputs()],
    }
    for side in ("inputs", "outputs"):
        if found[side] != expected[side]:
            raise ContractError(
                f"model {path}: its contract promises {side} {_signature(expected[side])}, its graph has "
                f"{_signature(found[side])}; export it again"
            )


def _signature(values: list[tuple[str, str, list[int]]]) -> str:
    """Return inputs or outputs as text, such as `image tensor(uint8) [1, 352, 480, 3]`."""
    return ", ".join(f"{name} {kind} {shape}" for name, kind, shape in values)


def _one_line(error: Exception) -> str:
    """Return an error's text without line breaks."""
    return " ".join(str(error).split())
