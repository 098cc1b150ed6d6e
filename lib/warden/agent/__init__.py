"""The agent of a connected device, and `device.Device`, its interface for an application.

`interface.Agent` is what features may use of it. May import every package; only firmware,
applications and tests import it.
"""
