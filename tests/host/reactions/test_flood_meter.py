"""The meter of floods: what is within a budget passes, what is above it for long is found once."""

import pytest
from warden_host.reactions.flood import FloodMeter
from warden_host.reactions.settings import Budget

BUDGET = Budget(messages_s=100, kib_s=50, processor_ms=200, tolerance_s=4)


@pytest.fixture
def meter():
    return FloodMeter(lambda _: BUDGET)


def run(meter: FloodMeter, rate: float, seconds: float, size: int = 10, device="D1") -> float:
    """Send at a rate from time 0; return when the device was found, or -1."""
    for number in range(int(rate * seconds)):
        if meter.count(device, size, number / rate):
            return number / rate
    return -1.0


def test_what_is_within_the_budget_is_no_flood(meter):
    assert run(meter, 99, 600) == -1


def test_a_burst_is_no_flood(meter):
    assert [meter.count("D1", 10, 5.0) for _ in range(400)] == [""] * 400
    assert [meter.count("D1", 10, 9.0) for _ in range(400)] == [""] * 400


def test_a_flood_is_found_within_five_seconds_and_once(meter):
    assert 0 < run(meter, 200, 10) <= 5
    assert 0 < run(FloodMeter(lambda _: BUDGET), 100_000, 1) < 0.01
    assert not any(meter.count("D1", 10, 4.0) for _ in range(1000))


def test_bytes_count_and_so_does_the_engines_time(meter):
    assert 0 < run(meter, 50, 60, size=4096) < 5
    found = [meter.spend("D2", 0.01, number / 50) for number in range(300)]
    assert "processor" in "".join(found)
    assert sum(map(bool, found)) == 1
    assert not any(meter.spend("D3", 0.003, number / 50) for number in range(3000))


def test_a_device_costs_no_other_and_can_be_forgotten(meter):
    assert run(meter, 1000, 10) > 0
    assert run(meter, 90, 10, device="D2") == -1
    meter.reset("D1")
    assert run(meter, 1000, 10) > 0


def test_the_reason_says_how_much_came_and_when(meter):
    why = [text for n in range(2000) if (text := meter.count("D1", 10, n / 1000))]
    assert len(why) == 1
    assert why[0].startswith("more than 100 messages a second: 44")
