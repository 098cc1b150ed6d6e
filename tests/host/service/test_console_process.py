"""The console's process is started again without a wait of `warden serve`, and after pauses."""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace

import pytest
from host_kit import new_fleet, refused
from process_kit import PATIENCE_S
from warden_host.engine.events import FleetEvent
from warden_host.service import console, console_process
from warden_host.service.console_process import MOST_PAUSE_S, START_S, ConsoleProcess

LISTENS = "import sys, time; print(8080, flush=True); time.sleep(600)"
SILENT = "import time; time.sleep(600)"
ENDS = "pass"


class Supervised:
    """A process whose program a test chooses, and whose time a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.program = LISTENS
        self.shown: list[FleetEvent] = []
        self.ports: list[int] = []
        self.process = ConsoleProcess(self.command, 0, self.shown.append, lambda: self.now)

    def command(self, port: int) -> list[str]:
        self.ports.append(port)
        return [sys.executable, "-c", self.program]

    def end(self) -> None:
        """Kill the process that runs, as something from outside does."""
        self.process._process.kill()
        self.wait()

    def wait(self) -> None:
        """Wait for its end, without a check."""
        self.process._process.wait(PATIENCE_S)

    def restart(self, program: str) -> None:
        """End the process, and have another program started in its place."""
        self.end()
        self.program = program
        self.now += MOST_PAUSE_S
        self.process.check()

    def pass_until(self, condition: str) -> None:
        """Check until the attribute of the process is set, while no time passes for it."""
        end = time.monotonic() + PATIENCE_S
        while not getattr(self, condition) and time.monotonic() < end:
            self.process.check()
            time.sleep(0.01)
        assert getattr(self, condition)

    @property
    def is_ready(self) -> bool:
        return not self.process._is_starting

    @property
    def is_over(self) -> bool:
        return self.process._process.poll() is not None


@pytest.fixture
def made() -> Iterator[Supervised]:
    found = Supervised()
    with closing(found.process):
        yield found


def test_the_first_start_waits_and_later_ones_do_not(made, monkeypatch):
    assert made.process.port == 8080
    waits = []
    real = console_process.readable
    monkeypatch.setattr(
        console_process, "readable", lambda *args: waits.append(args[1]) or real(*args)
    )
    made.restart(SILENT)
    first = made.process.pid
    made.process.check()
    made.process.check()
    assert waits == [0.0, 0.0] and made.process.pid == first
    made.now += START_S
    made.process.check()  # it had its time
    made.wait()
    made.program = LISTENS
    made.now += MOST_PAUSE_S
    made.process.check()
    made.pass_until("is_ready")
    assert set(waits) == {0.0}
    assert made.ports == [0, 8080, 8080]  # browsers know the port
    assert [one.code for one in made.shown] == ["web-failed"] * 2


def test_one_that_ends_at_once_is_started_after_pauses(made):
    made.restart(ENDS)
    pauses = []
    for _ in range(5):
        made.pass_until("is_over")
        before, pid = made.now, made.process.pid
        while made.process.pid == pid:
            made.now += 1.0
            made.process.check()
        pauses.append(made.now - before)
    assert pauses == [10.0, 20.0, 40.0, MOST_PAUSE_S, MOST_PAUSE_S]
    made.restart(LISTENS)
    made.pass_until("is_ready")
    made.end()
    pid = made.process.pid
    made.now += console_process.LEAST_PAUSE_S
    made.process.check()
    assert made.process.pid != pid


def test_ctrl_c_at_the_terminal_reaches_it_through_us_alone(made):
    """Else it ends while it starts, and `warden serve` shows a traceback and a failure."""
    for _ in range(2):
        assert os.getsid(made.process.pid) == made.process.pid
        made.restart(LISTENS)


def test_a_system_without_a_free_process_ends_nothing_else(made, monkeypatch):
    """Check goes on after a start that the system refuses, and starts it after the next pause."""

    def refuse(*_args: object, **_more: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as context:
        context.setattr(console_process.subprocess, "Popen", refuse)
        made.restart(LISTENS)
        made.process.check()  # within the pause
        assert [one.code for one in made.shown] == ["web-failed"] * 2
        assert "can't be started" in made.shown[1].text
        assert made.is_over
    made.now += MOST_PAUSE_S
    made.process.check()
    made.pass_until("is_ready")
    assert not made.is_over


@pytest.mark.parametrize("program", [ENDS, "print('no port', flush=True)", SILENT])
def test_a_first_start_that_fails(monkeypatch, program):
    monkeypatch.setattr(console_process, "START_S", 0.1)
    processes = []
    real = console_process.subprocess.Popen
    monkeypatch.setattr(
        console_process.subprocess,
        "Popen",
        lambda *args, **more: processes.append(real(*args, **more)) or processes[-1],
    )
    with refused("web-failed"):
        ConsoleProcess(lambda port: [sys.executable, "-c", program], 0, print)
    assert processes[0].poll() is not None


@pytest.mark.parametrize(("host", "told"), [("127.0.0.1", []), ("fleet.example", [8443])])
def test_the_firewall_guards_a_port_that_others_reach(tmp_path, monkeypatch, host, told):
    ports: list[int] = []
    stub = SimpleNamespace(port=8443, close=lambda: None)
    monkeypatch.setattr(console, "check_name", lambda *_: None)
    monkeypatch.setattr(console, "ControlServer", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(console, "Console", lambda *_: stub)
    authority = SimpleNamespace(ask=None)
    wrong = SimpleNamespace(guard_console=ports.append)
    parts = (None, SimpleNamespace(), authority, None, wrong)
    with console.console(new_fleet(tmp_path), console.WebAddress(host, 8443), *parts):
        assert ports == told
