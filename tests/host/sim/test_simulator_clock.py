"""The clock of a simulated board, as its file has it."""

import os
import time
from pathlib import Path

import pytest
from warden_host.sim import clock
from warden_host.sim.clock import MAX_SHIFT_S, Clock

DAY_S = 86400


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(clock, "libfaketime", lambda: Path("libfaketime.so.1"))
    return Clock(tmp_path / "clock")


def test_a_time_that_the_board_has_set_goes_on_without_power(made: Clock, tmp_path: Path) -> None:
    file = tmp_path / "clock"
    now = time.time()
    set_to = time.strftime("@%Y-%m-%d %H:%M:%S\n", time.gmtime(now + 10 * DAY_S))
    file.write_text(set_to)
    os.utime(file, (now - DAY_S, now - DAY_S))  # it was set a day ago
    made.go_on()
    # As an offset: libfaketime would begin again at a time.
    assert abs(int(file.read_text()) - 11 * DAY_S) < 600
    assert abs(made.now() - now - 11 * DAY_S) < 600


@pytest.mark.parametrize("text", ["9" * 60, "-" + "9" * 60, "", "x", "@", "@9999-99-99 00:00:00"])
def test_what_an_application_writes_there(made: Clock, tmp_path: Path, text: str) -> None:
    (tmp_path / "clock").write_text(text)
    assert abs(made.now() - time.time()) < MAX_SHIFT_S + 600
    made.go_on()
