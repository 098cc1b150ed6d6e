"""Chips before they run MicroPython: write a firmware, burn fuses.

Entry points: flash.write_firmware, harden.Hardening.
May import: fleet. Only the modules espressif, fuses, flash and signed import esptool's libraries.
"""
