import json
import os
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto

from runtime.contract import METADATA_KEY
from runtime.errors import ConfigError, ContractError, ModelLoadError, ProviderError
from runtime.network.session import NetworkSession, default_threads, session_options


def test_reads_the_contract_and_runs_the_network(tiny_onnx, tiny):
    session = NetworkSession(tiny_onnx, threads=1)
    image = np.zeros((32, 48, 3), np.uint8)
    image[..., 2] = 255
    logits = session.run(image)
    assert session.contract == tiny.tiny_contract()
    assert logits.shape == session.contract.logits_shape
    assert logits.dtype == np.float32
    assert logits[0, :, 0, 0].tolist() == pytest.approx([0, 0, 1])


def test_runs_a_view_that_is_not_contiguous(tiny_onnx):
    session = NetworkSession(tiny_onnx)
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    mirrored = image[:, ::-1]
    assert np.array_equal(session.run(mirrored), session.run(mirrored.copy()))


@pytest.mark.parametrize(("spin", "entry"), [(False, "0"), (True, "1")])
def test_threads_wait_without_spinning_unless_told_to(tiny_onnx, spin, entry):
    options = session_options(2, spin=spin)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == entry
    assert NetworkSession(tiny_onnx, threads=2, spin=spin).threads == 2


def test_says_which_file_is_missing(tmp_path):
    with pytest.raises(ModelLoadError, match=r"gone\.onnx.*found none"):
        NetworkSession(tmp_path / "gone.onnx")


def test_refuses_a_folder(tmp_path):
    with pytest.raises(ModelLoadError, match=r"cannot read it .Is a directory"):
        NetworkSession(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_refuses_a_pipe_and_a_device_at_once(tmp_path, kind):
    path = tmp_path / "seg.onnx"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ModelLoadError, match=f"cannot read it .it is a {kind}, not a regular file"):
        NetworkSession(path)


@pytest.mark.parametrize("content", [b"", b"not a network at all " * 20, b"\x08\x08\x12"])
def test_refuses_what_is_no_onnx_file(tmp_path, content):
    path = tmp_path / "noise.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"noise\.onnx.*cannot open it"):
        NetworkSession(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_refuses_a_truncated_file(tiny_onnx, share):
    whole = tiny_onnx.read_bytes()
    tiny_onnx.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises((ModelLoadError, ContractError)):
        NetworkSession(tiny_onnx)


def test_refuses_a_file_whose_weights_were_left_behind(tmp_path, write_tiny_onnx):
    path = write_tiny_onnx(tmp_path / "split.onnx", external_data=True)
    (tmp_path / "split.data").unlink()
    with pytest.raises(ModelLoadError, match="weights inside"):
        NetworkSession(path)


def test_a_known_error_is_one_line_and_all_that_is_written(tmp_path, capfd):
    path = tmp_path / "noise.onnx"
    path.write_bytes(b"noise" * 100)
    with pytest.raises(ModelLoadError) as caught:
        NetworkSession(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_refuses_a_file_without_a_contract(tmp_path, write_tiny_onnx):
    path = write_tiny_onnx(tmp_path / "bare.onnx", metadata=None)
    with pytest.raises(ContractError, match=rf"{METADATA_KEY}.*export\.to_onnx"):
        NetworkSession(path)


def test_names_the_file_whose_contract_is_damaged(tmp_path, write_tiny_onnx):
    path = write_tiny_onnx(tmp_path / "torn.onnx", metadata='{"schema": 1')
    with pytest.raises(ContractError, match=r"torn\.onnx.*JSON"):
        NetworkSession(path)


def test_refuses_a_contract_of_another_schema(tmp_path, write_tiny_onnx, tiny):
    plain = json.loads(tiny.tiny_contract().to_json())
    path = write_tiny_onnx(tmp_path / "new.onnx", metadata=json.dumps({**plain, "schema": 99}))
    with pytest.raises(ContractError, match=r"schema 1.*99"):
        NetworkSession(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"input_name": "picture"}, "promises inputs image .* graph has picture"),
        ({"input_type": TensorProto.FLOAT}, r"tensor\(float\)"),
        ({"input_hw": (40, 48)}, r"\[1, 40, 48, 3\]"),
        ({"input_hw": ("height", "width")}, r"\[1, any, any, 3\]"),
        ({"output_name": "scores"}, "promises outputs logits .* graph has scores"),
        ({"extra_output": True}, "coarse"),
    ],
)
def test_refuses_a_graph_that_breaks_its_contract(tmp_path, write_tiny_onnx, changes, says):
    path = write_tiny_onnx(tmp_path / "odd.onnx", **changes)
    with pytest.raises(ContractError, match=says):
        NetworkSession(path)


def test_refuses_a_graph_with_another_number_of_classes(tmp_path, write_tiny_onnx, tiny):
    more = json.loads(tiny.tiny_contract().to_json())
    more["classes"]["names"].append("grey")
    more["classes"]["palette_rgb"].append([9, 9, 9])
    path = write_tiny_onnx(tmp_path / "more.onnx", metadata=json.dumps(more))
    with pytest.raises(ContractError, match=r"\[1, 4, 4, 6\].*\[1, 3, 4, 6\]"):
        NetworkSession(path)


def test_refuses_an_unknown_provider(tiny_onnx):
    with pytest.raises(ProviderError, match=r"expected one of cpu, cuda.*'gpu'"):
        NetworkSession(tiny_onnx, provider="gpu")


def test_refuses_a_provider_that_this_onnxruntime_lacks(tiny_onnx, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match="offers cpu"):
        NetworkSession(tiny_onnx, provider="cuda")


@pytest.fixture
def accelerator(monkeypatch):
    """An onnxruntime that offers CUDA; what it makes of it is set by its attributes."""
    real = ort.InferenceSession

    class Accelerator:
        granted = True
        reported: ClassVar[dict[str, str]] = {}
        asked: ClassVar[list[object]] = []
        error: Exception | None = None
        nodes: ClassVar[dict[str, int]] = {"CUDAExecutionProvider": 3}

        def __init__(self, content, options, providers, enable_fallback):
            if Accelerator.error is not None:
                raise Accelerator.error
            Accelerator.asked = providers
            self.session = real(content, options, providers=["CPUExecutionProvider"])

        def __getattr__(self, name):
            return getattr(self.session, name)

        def get_providers(self):
            return [*(["CUDAExecutionProvider"] if self.granted else []), "CPUExecutionProvider"]

        def get_provider_graph_assignment_info(self):
            return [
                SimpleNamespace(ep_name=name, get_nodes=lambda count=count: [None] * count)
                for name, count in self.nodes.items()
            ]

        def get_provider_options(self):
            return {"CUDAExecutionProvider": self.reported, "CPUExecutionProvider": {}}

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: both)
    monkeypatch.setattr(ort, "InferenceSession", Accelerator)
    return Accelerator


def test_refuses_a_provider_that_was_not_granted(tiny_onnx, accelerator):
    # As onnxruntime does when the provider's own libraries are missing: a session, but on the processor.
    accelerator.granted = False
    with pytest.raises(ProviderError, match=r"asked onnxruntime for CUDA.*got CPU"):
        NetworkSession(tiny_onnx, provider="cuda")


@pytest.mark.parametrize(
    ("nodes", "refused", "told"),
    [
        ({"CUDAExecutionProvider": 3}, False, False),
        ({"CUDAExecutionProvider": 2, "CPUExecutionProvider": 1}, False, True),
        ({"CPUExecutionProvider": 3}, True, False),
        ({}, False, False),  # nothing is known
    ],
)
def test_a_provider_that_leaves_nodes_to_the_processor(tiny_onnx, accelerator, caplog, nodes, refused, told):
    accelerator.nodes = nodes
    if refused:
        with pytest.raises(ProviderError, match=r"granted, but the processor runs all 3 nodes"):
            NetworkSession(tiny_onnx, provider="cuda")
    else:
        NetworkSession(tiny_onnx, provider="cuda")
    assert ("runs 2 of 3 nodes, the processor the others" in caplog.text) == told


@pytest.mark.parametrize("reported", [{}, {"device_id": "1", "use_tf32": "1", "other": "9"}])
def test_passes_a_providers_options_on(tiny_onnx, accelerator, reported):
    accelerator.reported = reported
    wanted = {"device_id": "1", "use_tf32": "True"}
    assert NetworkSession(tiny_onnx, provider="cuda", provider_options=wanted).provider == "cuda"
    assert accelerator.asked == [("CUDAExecutionProvider", wanted), "CPUExecutionProvider"]


def test_refuses_a_provider_that_took_other_options(tiny_onnx, accelerator):
    accelerator.reported = {"device_id": "0", "use_tf32": "1"}
    with pytest.raises(ProviderError, match="asked for device_id=1, got device_id=0; choose what the device"):
        NetworkSession(tiny_onnx, provider="cuda", provider_options={"device_id": "1", "use_tf32": "1"})


def test_an_option_that_the_provider_does_not_know_is_its_error(tiny_onnx, accelerator):
    accelerator.error = RuntimeError("Unknown provider option: magic")
    with pytest.raises(ProviderError, match=r"the options magic=1 \(Unknown provider option: magic\)"):
        NetworkSession(tiny_onnx, provider="cuda", provider_options={"magic": "1"})


def test_the_processor_takes_no_options(tiny_onnx):
    with pytest.raises(ProviderError, match=r"provider cpu: expected no options.*got device_id=1"):
        NetworkSession(tiny_onnx, provider_options={"device_id": "1"})


@pytest.mark.parametrize("threads", [0, -1, 257, 100_000])
def test_refuses_a_number_of_threads_that_cannot_work(tiny_onnx, threads):
    with pytest.raises(ConfigError, match="expected 1 to 256"):
        NetworkSession(tiny_onnx, threads=threads)


def test_takes_one_thread_a_core_up_to_four(tiny_onnx, monkeypatch):
    assert NetworkSession(tiny_onnx).threads == default_threads()
    monkeypatch.setattr("runtime.network.session._core_of", str)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert default_threads() == 4
    monkeypatch.setattr("runtime.network.session._core_of", lambda cpu: str(cpu // 2))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    assert default_threads() == 2


def test_a_graph_that_opens_but_cannot_be_computed_is_an_error_of_ours(tiny_onnx, monkeypatch):
    session = NetworkSession(tiny_onnx)

    class Broken:
        def run(self, *_):
            raise RuntimeError("Input channels C is not equal\nto kernel channels")

    monkeypatch.setattr(session, "_session", Broken())
    height, width = session.contract.input.size_hw
    with pytest.raises(ModelLoadError, match=r"cannot compute it \(Input channels C is not equal to kernel"):
        session.run(np.zeros((height, width, 3), np.uint8))
