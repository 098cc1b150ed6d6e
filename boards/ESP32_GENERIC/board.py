"""ESP32 boards on stock firmware."""

NAME = "ESP32_GENERIC"
STORE = ("file", "/vault")
ROOT_KEY = ("chip", "/salt")
CLOCK = ("chip",)
NETWORK = "wifi"
FLOOR = 1793491200  # 2026-11-01, seconds since 1970
