"""The agent of a connected device, and `device.Device`, what an application sees of it.

May import every package; only firmware, applications and tests import it.
"""
