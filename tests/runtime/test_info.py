import json

import pytest

from runtime import info
from runtime.segmenter import bundled_model


def test_prints_what_the_bundled_model_is_and_allows(capsys):
    assert info.main([]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    terms = "CamVid: research use; learned from networks trained on Cityscapes: research use"
    assert lines["terms"] == terms
    assert lines["accuracy"].startswith("mIoU 0.7")
    assert lines["input"] == "image tensor(uint8) [1, 352, 480, 3]"
    assert "onnxruntime" in lines["packages"]
    assert lines["next:"] == f"python -m runtime.camera --model {bundled_model()}"


def test_prints_the_same_as_json(tiny_onnx, capsys):
    assert info.main([str(tiny_onnx), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["path"] == str(tiny_onnx)
    assert facts["size_bytes"] == tiny_onnx.stat().st_size
    assert facts["contract"]["output"]["stride"] == 8
    assert facts["inputs"][0]["type"] == "tensor(uint8)"


def test_a_file_that_states_no_terms_says_so(tiny_onnx, capsys):
    assert info.main([str(tiny_onnx)]) == 0
    assert "terms      none stated; ask whoever trained it" in capsys.readouterr().out


def test_a_file_of_others_is_sent_to_adapt(tmp_path, write_tiny_onnx, capsys):
    path = write_tiny_onnx(tmp_path / "their net.onnx", metadata=None)
    assert info.main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "contract   none: not a file of edgeseg" in out
    assert out.endswith(f"next: python -m export.adapt '{path}' --classes classes.json\n")


def test_warns_of_two_packages_for_one_module(tiny_onnx, capsys, monkeypatch):
    monkeypatch.setattr(info, "doubled_packages", lambda: ["a 1 and b 2 both provide the module c"])
    assert info.main([str(tiny_onnx)]) == 0
    assert capsys.readouterr().err == "warning: a 1 and b 2 both provide the module c\n"


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert info.main([str(tmp_path / "no.onnx")]) == 1
    assert capsys.readouterr().err.startswith("error: model")


@pytest.mark.parametrize("flag", ["--model", "--threads"])
def test_it_runs_nothing(flag):
    with pytest.raises(SystemExit) as stopped:
        info.main([flag, "1"])
    assert stopped.value.code == 2
