"""A serial line to a gateway, in the place of a network: machine.UART with its settings."""

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

# Bytes: a gateway sends one message at a time, as large as the default of the policy.
_RXBUF = const(4096)


class Serial:
    """port: the UART, which the link over it uses (net/serial.py)."""

    def __init__(self, port: "Any") -> None:
        self.port = port

    async def up(self, timeout_ms: int) -> None:
        """Return at once: what is at the other end, the link finds out."""


def make(args: "tuple[Any, ...]") -> Serial:
    """Make NETWORK = ("serial", {"id": 1, …}) with the settings of machine.UART.

    A pin is its number.
    """
    import machine

    settings = dict(args[0])
    for name in ("tx", "rx", "rts", "cts"):
        if settings.get(name) is not None:
            settings[name] = machine.Pin(settings[name])
    settings["timeout"] = 0  # it never waits: the link polls
    if "rxbuf" not in settings:
        settings["rxbuf"] = _RXBUF
    return Serial(machine.UART(settings.pop("id"), **settings))
