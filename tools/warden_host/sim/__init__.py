"""Simulated devices: the real firmware on the unix port, with a keypad in the terminal.

Entry points: simulated.run, simulated.SimulatedDevice.
`web` shows them in a browser.
May import: broker, devices, fleet, web.
"""
