"""The watchdog of a simulated device, on a clock of its own."""

import threading
from pathlib import Path

from process_kit import PATIENCE_S
from warden_host.sim.watchdog import Watchdog


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_bites_when_it_was_not_fed_in_time(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "watchdog"
    dog = Watchdog(path, clock)
    clock.now += 3600
    assert not dog.bites()  # it was not started
    path.write_text("5000 1\n")
    assert not dog.bites()
    clock.now += 5
    assert not dog.bites()
    path.write_text("5000 0\n")  # fed
    clock.now += 1
    assert not dog.bites()
    clock.now += 5
    assert not dog.bites()
    clock.now += 0.1
    assert dog.bites()


def test_the_start_before_counts_no_more(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "watchdog"
    path.write_text("5000 1\n")
    dog = Watchdog(path, clock)
    clock.now += 3600
    assert not dog.bites()


def test_a_file_without_a_time(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "watchdog"
    dog = Watchdog(path, clock)
    for text in ("", " 1", "x 1", "-1 1", "9" * 1000):
        path.write_text(text)
        clock.now += 3600
        assert not dog.bites(), text


def test_guard_ends_with_the_device(tmp_path: Path) -> None:
    ended, bitten = threading.Event(), threading.Event()
    dog = Watchdog(tmp_path / "watchdog")
    thread = threading.Thread(target=dog.guard, args=(ended, bitten.set))
    thread.start()
    ended.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert not bitten.is_set()
    (tmp_path / "watchdog").write_text("0 1\n")
    thread = threading.Thread(target=dog.guard, args=(threading.Event(), bitten.set))
    thread.start()
    thread.join(PATIENCE_S)
    assert bitten.is_set()
