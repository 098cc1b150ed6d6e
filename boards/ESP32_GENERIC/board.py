"""ESP32 boards on stock firmware."""

NAME = "ESP32_GENERIC"
STORE = ("file", "/vault")
ROOT_KEY = ("chip", "/salt")
CLOCK = ("chip",)
NETWORK = "wifi"
FLOOR = 1793491200  # 2026-11-01, seconds since 1970
# The board starts anew when the event loop has not run for so many milliseconds.
WATCHDOG = 30000
# Updates of the application: SLOTS = ("file", "/slots", ("app",), 2). Of the firmware too, where
# the partition table has two OTA partitions (stock: ESP32_GENERIC-OTA, the classic chip; the
# others have one factory partition: no-ota): SLOTS = ("partition", "/slots", ("app", "firmware"),
# 2), see README.md.
