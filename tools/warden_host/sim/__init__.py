"""Simulated devices: the real firmware on the unix port, with a keypad in the terminal.

Entry points: simulated.run, simulated.SimulatedDevice.
May import: broker, devices, fleet.
"""
