"""The gate: a start waits for a one-time password, typed on the board's keypad.

Entry point: `gate.start`, keypad and display of an agent. `machine` holds the states, sans-IO, and
`codes` verifies HOTP and TOTP on the device. May import `ota`, `session` and `vault`.
"""
