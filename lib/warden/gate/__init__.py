"""The one-time password that a start waits for: keypad and display (`gate.Gate`), states (`machine.Otp`), codes (`codes.Codes`).

May import `ota`, `session` and `vault`.
"""
