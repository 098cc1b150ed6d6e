"""Raspberry Pi Pico W (RP2040) on stock firmware."""

NAME = "RPI_PICO_W"
STORE = ("file", "/vault")
ROOT_KEY = ("chip", "/salt")
CLOCK = ("chip",)
NETWORK = "wifi"
FLOOR = 1793491200  # 2026-11-01, seconds since 1970
# Nobody gave the processor back for so long, in ms: the board starts anew. A timer feeds the chip's own watchdog, which reaches 8,388.
WATCHDOG = 30000
