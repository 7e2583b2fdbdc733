import json
import platform
from dataclasses import replace

import onnxruntime

from benchmarks.machine import description as machine_module
from benchmarks.machine import usage
from benchmarks.machine.description import UNKNOWN, Machine, machine_with_noise, this_machine
from benchmarks.machine.yardstick import Noise
from runtime.base.codec import from_plain, to_plain


def test_names_what_a_latency_depends_on():
    machine = this_machine()
    assert machine.cpu
    assert machine.cpus >= 1
    assert machine.versions["onnxruntime"] == onnxruntime.__version__
    assert machine.versions["python"] == platform.python_version()
    assert machine.cpu in str(machine)
    assert machine.noise is None
    assert machine.facts()["noise"] == "not measured"


def test_comes_back_from_json():
    machine = replace(this_machine(), noise=Noise(20, 5.0, 1.0, 2.0, None, 3.0))
    assert from_plain(Machine, json.loads(json.dumps(to_plain(machine)))) == machine


def test_what_the_system_does_not_tell_is_said_so(system, monkeypatch):
    monkeypatch.setattr(usage, "psutil", None)
    monkeypatch.setattr(usage, "load_average", lambda: None)
    machine = this_machine(system({}))
    for name in ("cores", "cpu_limit", "flags", "memory_mb", "virtual", "governor", "clock_mhz"):
        assert getattr(machine, name) is None
    assert (machine.highest_clock_mhz, machine.temperature, machine.load, machine.steal_percent) == (
        None,
    ) * 4
    facts = machine.facts()
    for name in ("instruction sets", "CPU limit of cgroups", "memory", "virtual machine", "governor"):
        assert facts[name] == UNKNOWN
    assert facts["clock"] == "unknown, at most unknown"
    assert facts["temperature"] == facts["load at the start"] == facts["CPU steal since boot"] == UNKNOWN


def test_is_described_before_it_is_loaded(monkeypatch):
    order = []
    described = this_machine()
    noise = Noise(20, 5.0, 1.0, 2.0, None, None)
    monkeypatch.setattr(machine_module, "this_machine", lambda: order.append("describe") or described)
    monkeypatch.setattr(machine_module, "measure_noise", lambda threads: order.append(threads) or noise)
    assert machine_with_noise(3).noise == noise
    assert order == ["describe", 3]
