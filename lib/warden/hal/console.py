"""The board's console, left open to mpremote in development mode.

    held(pin, level)              whether a jumper asks for it
    open_console(until, seconds, pin)
    seconds_left(until)           what earlier starts left of an order's time
    resume(board)                 firmware/boot.py, after a soft reset
    close()                       at a start that leaves the console shut

A timer ends the mode by a reset. Neither the timer outlives a soft reset, as mpremote does one,
nor an RP2's clock any other, so the file `/console.open` keeps two numbers: the end of the order
in unix seconds, 0 for the pin, and the seconds that are left. The file opens nothing by itself.
"""

import os
import sys

import machine
import micropython
from micropython import const

from . import system

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_CTRL_C = const(3)
_LOOK_MS = const(1000)
_FILE = const("/console.open")
_KEEP_S = const(300)  # between two writes of the file: at most 288 a day
_MOST_BYTES = const(32)


def held(pin: "int | str", level: int) -> bool:
    """Return whether a jumper holds the pin at this level, against its pull."""
    pull = machine.Pin.PULL_DOWN if level else machine.Pin.PULL_UP
    return bool(machine.Pin(pin, machine.Pin.IN, pull)() == level)


def open_console(until: int, seconds: int, pin: "tuple[Any, ...] | None") -> None:
    """Let Ctrl-C end the application into the REPL, and restart the board when that is over.

    until: the end of the order in unix seconds, 0 for the pin
    seconds: that are left of the order
    pin: what held() takes; None for an order
    """
    print("warden: DEVELOPMENT MODE: the console is open, and all secrets with it")
    micropython.kbd_intr(_CTRL_C)
    system.console_open = True
    if not hasattr(machine, "Timer"):
        return  # the unix port: its process ends with its simulator
    _keep(until, seconds)
    _watch(until, seconds, pin)


def seconds_left(until: int) -> "int | None":
    """Return the seconds that earlier starts left of the order that ends then; None: not known."""
    kept, seconds = _kept()
    return seconds if kept == until else None


def resume(board: "Any") -> None:
    """Start the timer again that a soft reset stopped: one by mpremote goes past main.py.

    At any other start main.py decides anew.
    """
    from . import clock_rtc

    until, seconds = _kept()
    if until > 0:
        seconds = min(seconds, until - clock_rtc.ChipClock().now())
        if seconds > 0:
            _watch(until, seconds, None)
    elif until == 0:
        pin = board.DEVELOPMENT[1:]
        if held(*pin):
            _watch(0, 0, pin)


def close() -> None:
    """Stop the timer, and forget what it counted."""
    timer, system.console_timer = system.console_timer, None
    if timer is not None:
        timer.deinit()
    try:
        os.remove(_FILE)
    except OSError:
        pass  # there is none


def _watch(until: int, seconds: int, pin: "tuple[Any, ...] | None") -> None:
    """Restart the board after these seconds, or once the pin is not held."""
    left = [seconds]

    def look(_: object) -> None:
        left[0] -= 1
        over = left[0] <= 0 if pin is None else not held(*pin)
        if pin is None and (over or left[0] % _KEEP_S == 0):
            _keep(until, left[0])
        if over:
            machine.reset()

    if system.console_timer is not None:
        system.console_timer.deinit()
    number = -1 if sys.platform == "rp2" else 0  # an ESP32's timers have numbers
    system.console_timer = timer = machine.Timer(number)
    timer.init(period=_LOOK_MS, mode=machine.Timer.PERIODIC, callback=look)


def _keep(until: int, seconds: int) -> None:
    try:
        with open(_FILE, "w") as file:
            file.write("%d %d" % (until, seconds))
    except OSError:
        pass  # a full flash: the timer still ends this start, and the vault counts the starts


def _kept() -> "tuple[int, int]":
    """Return (end, seconds left), (-1, 0) where there is nothing to read."""
    try:
        with open(_FILE) as file:
            until, seconds = file.read(_MOST_BYTES).split()
        return int(until), int(seconds)
    except (OSError, ValueError):
        return -1, 0
