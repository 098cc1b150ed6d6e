"""What a device's messages cost the engine: its processor's time, and no waiting."""

import time

from host_kit import DEVICE
from warden_host.reactions.settings import Budget
from warden_host.service.flood_guard import FloodGuard

BUDGET = Budget(processor_ms=20, tolerance_s=1)


def spin() -> None:
    until = time.thread_time() + 0.1
    while time.thread_time() < until:
        pass


def test_a_slow_disk_makes_no_device_a_flooder_and_work_does():
    found = []
    guard = FloodGuard(lambda: 5.0)
    guard.watch(lambda _: BUDGET, lambda device, why: found.append((device, why)))
    guard.handle(DEVICE, lambda: time.sleep(0.2))
    assert found == []
    guard.handle(DEVICE, spin)
    ((device, why),) = found
    assert device == DEVICE
    assert why.startswith("more than 20 ms of processor time a second")
