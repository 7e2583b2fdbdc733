import platform

import onnxruntime
import pytest

from benchmarks.machine import _cpu_name, this_machine


def test_names_what_a_latency_depends_on():
    machine = this_machine()
    assert machine.cpu
    assert machine.cpus >= 1
    assert machine.versions["onnxruntime"] == onnxruntime.__version__
    assert machine.versions["python"] == platform.python_version()
    assert machine.cpu in str(machine)


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (
            {"cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC 9\nprocessor\t: 1\nmodel name\t: other\n"},
            "AMD EPYC 9",
        ),
        (
            {"device-tree/model": "Raspberry Pi 5 Model B\0", "cpuinfo": "model name : x\n"},
            "Raspberry Pi 5 Model B",
        ),
    ],
)
def test_a_board_goes_by_its_own_name_and_a_processor_by_its_model(tmp_path, files, name):
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    assert _cpu_name(tmp_path) == name


@pytest.mark.parametrize("cpuinfo", [None, "Features : fp asimd\n"])
def test_a_processor_without_a_name_goes_by_its_architecture(tmp_path, monkeypatch, cpuinfo):
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert _cpu_name(tmp_path) == "aarch64"
