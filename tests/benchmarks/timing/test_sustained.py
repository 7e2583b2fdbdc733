import pytest

from benchmarks.machine import usage
from benchmarks.machine.usage import Temperature
from benchmarks.timing import sustained
from benchmarks.timing.sustained import duration_s, duration_text, slowdown, sustain


class Work:
    """Frames that take given seconds on a clock of their own."""

    def __init__(self, frame_s):
        self.now_s = 100.0
        self.frame_s = frame_s

    def __call__(self):
        took_s = self.frame_s(self.now_s - 100.0)
        self.now_s += took_s
        return 1000 * took_s

    def clock_s(self):
        return self.now_s


def test_minute_by_minute_with_a_short_last_one(system):
    work = Work(lambda at_s: 0.25)
    shown = []
    minutes = sustain(work, 150, shown.append, clock_s=work.clock_s, files=system({}))
    assert [minute.until_s for minute in minutes] == [60, 120, 150]
    assert [minute.frames for minute in minutes] == [240, 240, 120]
    assert shown == list(minutes)


def test_a_machine_that_slows_down_by_heat_shows(system):
    work = Work(lambda at_s: 0.125 if at_s < 60 else 0.25)
    minutes = sustain(work, 120, clock_s=work.clock_s, files=system({}))
    assert [minute.total_ms["p50"] for minute in minutes] == [125, 250]
    assert slowdown(minutes) == 2
    assert slowdown(minutes[:1]) is None


def test_frames_longer_than_a_minute_get_a_row_each(system):
    work = Work(lambda at_s: 130.0)
    minutes = sustain(work, 200, clock_s=work.clock_s, files=system({}))
    assert [(minute.until_s, minute.frames) for minute in minutes] == [(130, 1), (260, 1)]


def test_temperature_clock_and_energy_are_those_of_their_minute(system, monkeypatch):
    rapl = "sys/class/powercap/intel-rapl:0/"
    warm = [20.0]

    def frame_s(at_s):
        warm[0] = 50 + at_s / 10
        system({rapl + "energy_uj": f"{at_s * 1e6 % 7e6:.0f}\n"})
        return 1.0

    monkeypatch.setattr(sustained, "temperature", lambda: Temperature(warm[0], "cpu"))
    files = system({rapl + "name": "package-0\n", rapl + "energy_uj": "0\n"})
    system({rapl + "max_energy_range_uj": "7000000\n"})
    work = Work(frame_s)
    minutes = sustain(work, 120, clock_s=work.clock_s, files=files)
    assert [minute.temperature.celsius for minute in minutes] == pytest.approx([55.9, 61.9])
    # A watt; the counter wraps around every 7 s and is read every 5 s. The first frame sets it to 0.
    assert [sum(minute.energy.joules.values()) for minute in minutes] == pytest.approx([59, 60])


def test_what_the_system_does_not_tell_is_none(system, monkeypatch):
    monkeypatch.setattr(usage, "psutil", None)
    work = Work(lambda at_s: 1.0)
    (minute,) = sustain(work, 10, clock_s=work.clock_s, files=system({}))
    assert (minute.temperature, minute.clock_mhz, minute.others) == (None, None, None)
    assert minute.energy.joules == {}
    assert minute.energy.why_not


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600)])
def test_duration(text, seconds):
    assert duration_s(text) == seconds
    assert duration_text(seconds) == ("90s" if seconds == 90 else text)


@pytest.mark.parametrize("text", ["", "10", "0s", "-1m", "1 h", "1d"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="expected a duration"):
        duration_s(text)
