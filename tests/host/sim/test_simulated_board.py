"""A board on the page whose process is not the firmware: it floods, asks, or can't be started."""

import asyncio
import errno
import os
import queue
import shutil
import threading
import types
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from warden_host import filelock
from warden_host.fleet import device_tree
from warden_host.sim import simulated
from warden_host.sim.network import Network
from warden_host.sim.web.device import SimulatedBoard

LINES = 500


class Process:
    """In place of SimulatedDevice. runs: what each start does with its lines and its wires."""

    runs: "list[Callable[[Process, Callable[[str], None]], None]]"
    wires: "list[Any]"

    def __init__(self, home: Path, heap: str, lock: Any, pin: bytes, keyboard: Any, *ends: Any):
        self.process = types.SimpleNamespace(kill=lambda: self.killed.put(None))
        self.killed: queue.Queue[None] = queue.Queue()
        self.wires.append(ends[0])
        self._act = self.runs.pop(0)
        if self._act is fails:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._out, self._back = (os.dup(fd) for fd in ends[0].fds)

    def tell(self, line: bytes) -> None:
        os.write(self._out, line)

    def hear(self) -> bytes:
        return os.read(self._back, 100)

    def lines(self, show: Callable[[str], None]) -> int:
        self._act(self, show)
        return 0

    def stop(self) -> None:
        os.close(self._out)
        os.close(self._back)


def fails(*_: object) -> None:
    """A start for which the machine has no more files."""


def rests(process: Process, _: object) -> None:
    process.killed.get()


def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runs: list[Any],
    test: Callable[[SimulatedBoard, "asyncio.Queue[str]"], Awaitable[None]],
) -> None:
    """Do a test with a board whose starts are these."""
    (tmp_path / "root" / "lib").mkdir(parents=True)
    (tmp_path / "root" / "main.py").touch()
    (tmp_path / "fuses").mkdir()
    shutil.copy(device_tree.tree().board("UNIX") / "board.py", tmp_path / "root" / "lib")
    monkeypatch.setattr(Process, "runs", [*runs, rests], raising=False)
    monkeypatch.setattr(Process, "wires", [], raising=False)
    monkeypatch.setattr(simulated, "SimulatedDevice", Process)
    monkeypatch.setattr(simulated, "_BACKOFF_S", (0.0,))

    async def within(lock: filelock.Lock) -> None:
        said: asyncio.Queue[str] = asyncio.Queue()
        board = SimulatedBoard(
            tmp_path, lock, "", b"", False, lambda: None, lambda _, text: said.put_nowait(text)
        )
        board.switch_on()
        try:
            await test(board, said)
        finally:
            await board.close()

    lock = filelock.try_lock(tmp_path / "lock")
    assert lock is not None
    with lock:
        asyncio.run(within(lock))


async def until(said: "asyncio.Queue[str]", text: str) -> None:
    while not (await said.get()).startswith(text):
        pass


def test_a_board_that_prints_faster_than_it_is_shown(tmp_path, monkeypatch) -> None:
    printed = threading.Event()

    def prints(_: Process, show: Callable[[str], None]) -> None:
        for _ in range(LINES):
            show("x")
        printed.set()

    async def test(_: SimulatedBoard, said: "asyncio.Queue[str]") -> None:
        await until(said, "-- on --")
        assert not printed.wait(0.2)  # as long as the loop shows nothing, it waits
        for _ in range(LINES):
            await until(said, "x")

    run(tmp_path, monkeypatch, [prints], test)


def test_a_board_that_can_not_be_started_can_be_later(tmp_path, monkeypatch) -> None:
    async def test(board: SimulatedBoard, said: "asyncio.Queue[str]") -> None:
        await until(said, "-- off: Too many open files")
        assert Process.wires[0].fds == ()  # its ends of the pipes are closed
        board.switch_on()
        await until(said, "-- on --")

    run(tmp_path, monkeypatch, [fails], test)


def test_one_lookup_at_a_time_and_none_of_an_earlier_run(tmp_path, monkeypatch) -> None:
    asked: list[str] = []
    heard: queue.Queue[bytes] = queue.Queue()
    late, reached = asyncio.Event(), threading.Event()

    async def port_of(_: Network, host: str, port: int) -> int:
        asked.append(host)
        if host == "slow":
            reached.set()
            await late.wait()
        else:
            late.set()
            for _ in range(9):
                await asyncio.sleep(0)
        return port

    def asks(process: Process, _: object) -> None:
        process.tell(b"net slow 1\n" * 99)
        reached.wait()

    def asks_again(process: Process, _: object) -> None:
        process.tell(b"net fast 2\n")
        heard.put(process.hear())

    async def test(*_: object) -> None:
        assert await asyncio.to_thread(heard.get) == b"port 2\n"

    monkeypatch.setattr(Network, "port_of", port_of)
    run(tmp_path, monkeypatch, [asks, asks_again], test)
    assert asked == ["slow", "fast"]


def test_without_power_nothing_is_shown_of_the_run(tmp_path, monkeypatch) -> None:
    def shows(process: Process, show: Callable[[str], None]) -> None:
        process.tell(b"pin 15 1\n")
        show("display Open|")
        show("shown")
        process.killed.get()

    async def test(board: SimulatedBoard, said: "asyncio.Queue[str]") -> None:
        await until(said, "shown")
        while not board.parts()["pins"]():
            await asyncio.sleep(0)
        assert board.parts()["display"]() == {"kind": "console", "lines": ["Open", ""]}
        board.switch_off()
        await until(said, "-- off")
        dark = {"kind": "console", "lines": ["", ""], "light": False}
        assert board.parts()["display"]() == dark and board.parts()["pins"]() == {}

    run(tmp_path, monkeypatch, [shows], test)
