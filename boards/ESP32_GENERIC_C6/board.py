"""ESP32-C6 boards on stock firmware."""

NAME = "ESP32_GENERIC_C6"
STORE = ("file", "/vault")
# After `warden harden … root-key` the chip's own: ROOT_KEY = ("efuse", "esp32c6", 0).
ROOT_KEY = ("chip", "/salt")
CLOCK = ("chip",)
NETWORK = "wifi"
FLOOR = 1793491200  # 2026-11-01, seconds since 1970
# The board starts anew when the event loop has not run for so many milliseconds.
WATCHDOG = 30000
# Updates of the application: SLOTS = ("file", "/slots", ("app",), 2). Of the firmware too, in a
# build with partitions.csv: SLOTS = ("partition", "/slots", ("app", "firmware"), 2).
