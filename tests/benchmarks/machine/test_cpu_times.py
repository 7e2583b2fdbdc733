import pytest

from benchmarks.machine.cpu_times import (
    CpuShares,
    CpuTimes,
    cpu_times,
    load_average,
    shares,
    steal_since_boot_percent,
)

STAT = "cpu  {} 0 0 {} 0 0 0 {} 0 0\ncpu0 1 2 3\nintr 5\n"


def test_others_and_the_host_are_told_from_us(system, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    before = cpu_times(system({"proc/stat": STAT.format(1000, 2000, 50)}), own_s=4.0)
    after = cpu_times(system({"proc/stat": STAT.format(1700, 2200, 150)}), own_s=9.0)
    assert before == CpuTimes(total_s=30.5, busy_s=10.0, steal_s=0.5, own_s=4.0)
    # 10 s of all hardware threads: 7 busy, of which 5 were ours, and 1 stolen.
    assert shares(before, after) == CpuShares(
        steal_percent=pytest.approx(10), others_percent=pytest.approx(20)
    )
    assert steal_since_boot_percent(system({})) == pytest.approx(100 * 1.5 / 40.5)


@pytest.mark.parametrize("stat", [None, "", "cpu\n", "cpu  1 2 3\n", "cpu  a b c d e f g h\n", "intr 1\n"])
def test_damaged_counters_are_not_told(system, stat):
    files = system({} if stat is None else {"proc/stat": stat})
    assert cpu_times(files) is None
    assert steal_since_boot_percent(files) is None


def test_no_time_between_two_readings_tells_nothing():
    times = CpuTimes(10, 5, 0, 1)
    assert shares(times, times) is None
    assert shares(None, times) is None


@pytest.mark.parametrize(
    ("text", "load"), [("0.50 1.25 2.00 5/114 5942\n", (0.5, 1.25, 2.0)), ("0.5 1\n", None), ("", None)]
)
def test_load_average(system, text, load):
    assert load_average(system({"proc/loadavg": text})) == load
