"""Raspberry Pi Pico 2 W (RP2350) on stock firmware."""

NAME = "RPI_PICO2_W"
STORE = ("file", "/vault")
ROOT_KEY = ("chip", "/salt")
CLOCK = ("chip",)
NETWORK = "wifi"
FLOOR = 1793491200  # 2026-11-01, seconds since 1970
# The board restarts when its event loop has not run for so long, in ms. A timer feeds the chip's
# own watchdog, which reaches 8,388.
WATCHDOG = 30000
SLOTS = ("file", "/slots", ("app",), 2)
