"""What ended the last start, by models of machine.reset_cause() on each kind of chip."""

import os
import sys

from harness import equal
from warden.hal import reset_cause


class Rp2:
    """machine.reset() uses the watchdog, whose register REASON tells both apart."""

    PWRON_RESET, WDT_RESET = 1, 3

    def __init__(self, cause, reason, base):
        self.reset_cause = lambda: cause
        self.mem32 = {base + 8: reason}


class Esp32:
    """Causes of ESP-IDF: a task's watchdog is WDT, esp_restart() and a panic are HARD."""

    PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5

    def __init__(self, cause):
        self.reset_cause = lambda: cause


class Platform:
    """sys and os of a port."""

    def __init__(self, platform, name):
        self.platform = platform
        self.uname = lambda: ("", "", "", "", name)


def ended(machine, platform, name=""):
    reset_cause.machine = machine
    reset_cause.sys = reset_cause.os = Platform(platform, name)
    try:
        return reset_cause.ended()
    finally:
        reset_cause.machine = sys.modules.get("machine")
        reset_cause.sys, reset_cause.os = sys, os


def test_rp2():
    for name, base in (("Pico W with RP2040", 0x40058000), ("Pico 2 W with RP2350", 0x400D8000)):
        for cause, reason, expected in (
            (Rp2.PWRON_RESET, 0, ""),
            (Rp2.PWRON_RESET, 2, ""),
            (Rp2.WDT_RESET, 2, "reset"),
            (Rp2.WDT_RESET, 1, "watchdog"),
            (Rp2.WDT_RESET, 3, "watchdog"),
        ):
            equal(ended(Rp2(cause, reason, base), "rp2", name), expected)


def test_esp32():
    for cause, expected in (
        (0, ""),
        (Esp32.PWRON_RESET, ""),
        (Esp32.HARD_RESET, "reset"),
        (Esp32.WDT_RESET, "watchdog"),
        (Esp32.DEEPSLEEP_RESET, ""),
        (Esp32.SOFT_RESET, ""),
    ):
        equal(ended(Esp32(cause), "esp32"), expected)


def test_ports_without_it():
    equal(ended(object(), "linux"), "")
    # A button at the reset pin.
    equal(ended(Esp32(Esp32.HARD_RESET), "mimxrt"), "")
