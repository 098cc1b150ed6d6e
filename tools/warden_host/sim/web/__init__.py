"""The simulator in a browser: a page with the keypad, display, power and flash of devices.

Entry point: run.run. It needs the packages of `warden[web]`, so it is loaded for its option alone.
"""
