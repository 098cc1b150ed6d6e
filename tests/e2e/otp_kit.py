"""A person at a simulated keypad, and the owner who gets the codes."""

import re
import subprocess
import threading
import time
from typing import Any

from fleet_kit import DEVICE, PATIENCE_S, Board, Journal, World, wait_until
from warden_client.protocol.session import Instant
from warden_host.engine.engine import Engine

_ECHO_S = 5.0


class Keypad(Board):
    """A board whose standard input is its keys."""

    _stdin = subprocess.PIPE

    def press(self, keys: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(keys)
        self.process.stdin.flush()

    def echo(self) -> int:
        """How many digits the display shows."""
        shown = [line for line in self.lines.all() if line.startswith("display ")]
        second = shown[-1].rpartition("|")[2] if shown else ""
        return len(second) if set(second) <= {"*"} else 0

    def enter(self, code: str) -> None:
        """The code and #.

        As a person does it: look whether the first key was taken, press it again if not.
        """
        again = 0.0

        def taken() -> bool:
            nonlocal again
            if time.monotonic() > again:
                # Where the one before comes late after all, * takes it away.
                self.press("*" + code[0])
                again = time.monotonic() + _ECHO_S
            return self.echo() == 1

        wait_until(taken, "digit on the display")
        for place, digit in enumerate(code[1:], 2):
            self.press(digit)
            wait_until(lambda place=place: self.echo() == place, f"{place} digits on the display")
        self.press("#")

    def asks(self, note: str = "") -> None:
        """The next display that asks for a code; with a note, the next one that shows that.

        For how many minutes the code is valid depends on how long the test has taken.
        """
        self.lines.wait_item(
            lambda line: re.fullmatch(rf"display Code\?( \d+ min)?\|{note or '.*'}", line), note
        )

    def opens(self, by: str = "otp") -> None:
        self.wait_line(f"log gate-open {by}")


class Owner:
    """Reads the codes where the owner of a fleet without mail does."""

    def __init__(self, world: World, patience_s: float = PATIENCE_S) -> None:
        self.news = Journal(patience_s)
        assert world.authority is not None
        world.authority.codes.console.watch(self.news.add, threading.Event())

    def wait_code(self, device: str = DEVICE) -> dict[str, Any]:
        found: dict[str, Any] = self.news.wait_item(
            lambda one: (one["purpose"], one["device"]) == ("code", device), "code"
        )
        return found

    def code(self, device: str = DEVICE) -> str:
        return str(self.wait_code(device)["code"])


def numbers(text: str) -> set[str]:
    """Return the runs of digits in text: six in the middle of a time or an ID are no code."""
    return set(re.findall("[0-9]+", text))


def other(code: str) -> str:
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"


def pass_time(world: World, seconds: int) -> None:
    """The authority's clocks go on by so much; the device's don't."""
    assert world.authority is not None

    def work(engine: Engine) -> None:
        before = engine.clock

        def later() -> Instant:
            now = before()
            return Instant(now.unix + seconds, now.steady + seconds)

        engine.clock = later

    world.authority.ask(work)
