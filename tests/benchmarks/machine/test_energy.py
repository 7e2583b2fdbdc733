import pytest

from benchmarks.machine.energy import EnergyMeter

RAPL = "sys/class/powercap/intel-rapl:{}/"


def counters(uj, index=0, name="package-0", wraps_uj=1_000_000):
    folder = RAPL.format(index)
    return {
        folder + "name": f"{name}\n",
        folder + "energy_uj": f"{uj}\n",
        folder + "max_energy_range_uj": f"{wraps_uj}\n",
    }


def test_stretches_add_up_and_what_is_between_them_does_not_count(system):
    meter = EnergyMeter(system(counters(100_000)))
    with meter:
        system(counters(300_000))
    system(counters(500_000))
    with meter:
        system(counters(550_000))
    assert meter.energy().joules == {"package-0": pytest.approx(0.25)}
    assert meter.energy().words(frames=10, seconds=0.5) == "package-0 25.0 mJ a frame, 0.5 W"


def test_a_counter_that_wraps_around(system):
    meter = EnergyMeter(system(counters(900_000)))
    with meter:
        system(counters(150_000))
    assert meter.energy().joules == {"package-0": pytest.approx(0.25)}


def test_parts_of_a_package_do_not_count_twice(system):
    both = {**counters(0), **counters(0, "0:0", "core"), **counters(0, 1, "package-1")}
    meter = EnergyMeter(system(both))
    with meter:
        system({**counters(10), **counters(5, "0:0", "core"), **counters(20, 1, "package-1")})
    assert set(meter.energy().joules) == {"package-0", "package-1"}


def test_a_system_without_counters_says_why(system):
    with EnergyMeter(system({})) as meter:
        pass
    assert meter.energy().words(1, 1.0) == "unknown (this system has no /sys/class/powercap)"
    with EnergyMeter(system({"sys/class/powercap/dtpm/name": "x"})) as meter:
        pass
    assert meter.energy().words(1, 1.0) == "unknown (this system has no RAPL counters)"


@pytest.mark.parametrize("text", ["", "much\n"])
def test_a_counter_that_we_may_not_read_says_so(system, text):
    with EnergyMeter(system({**counters(0), RAPL.format(0) + "energy_uj": text})) as meter:
        pass
    assert "intel-rapl:0/energy_uj cannot be read; try as root" in meter.energy().words(1, 1.0)


def test_a_counter_that_falls_silent_makes_no_sum(system):
    meter = EnergyMeter(system(counters(0)))
    with meter:
        system(counters(100))
    with meter:
        system({RAPL.format(0) + "energy_uj": ""})
    with meter:
        system(counters(200))
    assert meter.energy().joules == {}
    assert "could not be read all the time" in meter.energy().why_not


def test_a_counter_that_goes_back_without_a_known_range_makes_no_sum(system):
    meter = EnergyMeter(system(counters(500, wraps_uj=0)))
    with meter:
        system(counters(100, wraps_uj=0))
    assert meter.energy().joules == {}
