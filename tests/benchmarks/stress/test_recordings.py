from __future__ import annotations

import json
import sys

import pytest

from benchmarks.faults import main
from benchmarks.stress import recordings
from benchmarks.stress.recordings import FaultResult, FaultsConfig, Trial, measure_faults
from runtime.errors import ConfigError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


def test_a_kill_and_a_full_disk_cost_two_seconds_at_most():
    pytest.importorskip("av")
    config = FaultsConfig(faults=("kill -9", "disk full"), trials=1, segment_s=0.5, stalled_s=0)
    told: list[str] = []
    report = measure_faults(config, told.append)
    assert [result.fault for result in report.results] == ["kill -9", "disk full"]
    for result in report.results:
        (trial,) = result.trials
        assert result.kept
        assert trial.written > 0
        assert trial.playable > 0
    assert report.results[0].trials[0].exit_code == -9
    assert len(told) == 2


def test_a_recording_that_lost_more_is_an_error_of_the_command(monkeypatch, capsys):
    lost = Trial(at_s=3.0, written=90, playable=30, lost_s=4.0, broken=1, exit_code=-9)
    monkeypatch.setattr(recordings, "_strike", lambda *_: lost)
    assert main(["--faults", "kill -9", "--trials", "3", "--stalled-s", "0"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split() == ["kill", "-9", "3", "4.00", "4.00", "3", "NO"]
    assert err.splitlines()[-1].startswith("error: faults: expected at most the last 2 s lost")


def test_json_holds_every_strike(monkeypatch, capsys):
    kept = Trial(at_s=3.0, written=90, playable=88, lost_s=0.13, broken=0, exit_code=-9)
    monkeypatch.setattr(recordings, "_strike", lambda *_: kept)
    assert main(["--trials", "2", "--stalled-s", "0", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [len(result["trials"]) for result in report["results"]] == [2] * 5


@pytest.mark.parametrize(("lost_s", "broken", "kept"), [(2.0, 0, True), (2.01, 0, False), (0.0, 1, False)])
def test_what_is_promised_is_two_seconds_and_every_earlier_file(lost_s, broken, kept):
    good = Trial(1.0, 10, 10, 0.0, 0, 0)
    assert FaultResult("kill -9", (good, Trial(1.0, 10, 10, lost_s, broken, 0))).kept is kept


def test_a_camera_that_does_not_start_is_told(monkeypatch):
    monkeypatch.setattr(recordings.sys, "executable", "/bin/false")
    with pytest.raises(ConfigError, match="expected the camera to run on, it did not"):
        measure_faults(FaultsConfig(trials=1, stalled_s=0))
