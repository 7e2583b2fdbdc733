import pytest

from benchmarks.machine.sensors import clock_mhz, governor, highest_clock_mhz, temperature

CPUINFO = "processor\t: {}\nmodel name\t: AMD EPYC 9\ncpu MHz\t\t: {}\n\n"
ZONE, CHIP = "sys/class/thermal/thermal_zone{}/", "sys/class/hwmon/hwmon{}/"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {ZONE.format(0) + "type": "cpu-thermal\n", ZONE.format(0) + "temp": "48312\n"},
            "48.3 °C (cpu-thermal)",
        ),
        (
            {
                ZONE.format(0) + "type": "battery\n",
                ZONE.format(0) + "temp": "90000\n",
                CHIP.format(1) + "name": "k10temp\n",
                CHIP.format(1) + "temp1_input": "61000\n",
                CHIP.format(1) + "temp2_input": "64500\n",
            },
            "64.5 °C (k10temp)",
        ),
        ({ZONE.format(3) + "temp": "30000\n"}, "30.0 °C (thermal_zone3)"),
        ({ZONE.format(0) + "type": "cpu\n", ZONE.format(0) + "temp": "-274000\n"}, "None"),  # not connected
        ({ZONE.format(0) + "type": "cpu\n", ZONE.format(0) + "temp": "\n"}, "None"),
        ({ZONE.format(0) + "type": "cpu\n", ZONE.format(0) + "temp": "warm\n"}, "None"),
        ({}, "None"),
    ],
)
def test_the_hottest_sensor_of_the_processor(system, files, words):
    assert str(temperature(system(files))) == words


FREQ = "sys/devices/system/cpu/cpu{}/cpufreq/"


def test_clock_and_governor_of_the_hardware_threads_we_may_use(system):
    files = system(
        {
            FREQ.format(0) + "scaling_cur_freq": "1800000\n",
            FREQ.format(1) + "scaling_cur_freq": "2400000\n",
            FREQ.format(2) + "scaling_cur_freq": "3600000\n",
            FREQ.format(0) + "cpuinfo_max_freq": "2400000\n",
            FREQ.format(0) + "scaling_governor": "ondemand\n",
            FREQ.format(1) + "scaling_governor": "ondemand\n",
            FREQ.format(2) + "scaling_governor": "performance\n",
            "proc/cpuinfo": CPUINFO.format(0, 2596.1),
        }
    )
    assert clock_mhz(files, [0, 1]) == 2400
    assert highest_clock_mhz(files, [0, 1]) == 2400
    assert governor(files, [0, 1]) == "ondemand"
    assert governor(files, [0, 2]) == "ondemand, performance"
    assert (clock_mhz(files, [7]), highest_clock_mhz(files, [7]), governor(files, [7])) == (None, None, None)


def test_clock_where_there_is_no_cpufreq(system):
    files = system({"proc/cpuinfo": CPUINFO.format(0, 2596.1) + CPUINFO.format(1, 3100.0)})
    assert clock_mhz(files, [0]) == 2596.1
    assert clock_mhz(files, [0, 1]) == 3100.0
    assert clock_mhz(system({"proc/cpuinfo": "processor : 0\nBogoMIPS : 108.00\n"}), [0]) is None
