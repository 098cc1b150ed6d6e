"""Why the chip was reset. Only a start asks."""

import os
import sys

import machine


def ended() -> str:
    """Return how the last start ended.

    Returns: "watchdog" where it was not fed in time; "reset" where machine.reset() was called, or
    where ESP-IDF restarted after a crash of its own; "" for every other end, such as a power-up.
    """
    cause = getattr(machine, "reset_cause", int)()
    if cause and cause == getattr(machine, "WDT_RESET", None):
        if sys.platform == "rp2":
            # reset() makes use of the watchdog there. Its register REASON tells the timer (bit 0)
            # from an order (RP2040 data sheet, 4.7.6).
            base = 0x400D8000 if "RP2350" in os.uname()[4] else 0x40058000
            if not machine.mem32[base + 8] & 1:
                return "reset"
        return "watchdog"
    # ESP-IDF's ESP_RST_SW and ESP_RST_PANIC; elsewhere it is the reset pin.
    if sys.platform == "esp32" and cause == machine.HARD_RESET:
        return "reset"
    return ""
