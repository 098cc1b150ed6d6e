"""Boards on a serial port: found, checked, given Warden and their secrets, brought online.

Entry points: ports.choose, connection.Board, steps.Provisioning.
May import: chips, devices, fleet, otp, protocol, release, store.
"""
