"""Memory that outlives deep sleep, and deep sleep itself, on the ports that have them (ESP32)."""

import machine
from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any


class RtcMemory:
    """The memory of the real-time clock's domain: it loses its contents with the power alone."""

    def __init__(self, rtc: "Any") -> None:
        self._rtc = rtc

    def read(self) -> bytes:
        """Return what was written last; empty after a loss of power."""
        return bytes(self._rtc.memory())

    def write(self, data: bytes) -> bool:
        """Replace the contents; return False where they don't fit, and leave nothing then."""
        try:
            self._rtc.memory(data)
        except ValueError:  # above the firmware's limit, as a rule 2,048 bytes
            self._rtc.memory(b"")
            return False
        return True


def find() -> "RtcMemory | None":
    """Return this board's retained memory, or None."""
    rtc = getattr(machine, "RTC", None)
    return RtcMemory(rtc()) if rtc is not None and hasattr(rtc, "memory") else None


def deep_sleep(seconds: int) -> None:
    """Sleep deeply; the board starts anew afterwards."""
    machine.deepsleep(seconds * 1000)
