"""The serial ports of this machine, and which of them to use."""

import os
from dataclasses import dataclass

from serial.tools import list_ports  # type: ignore[import-untyped]

from warden_host.errors import HostError

AUTO = "auto"


@dataclass(frozen=True)
class Port:
    """A USB serial port. serial: the number by which a chip tells itself apart, or empty."""

    device: str
    product: str
    serial: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.device, self.product, self.serial) if part)


def usb_ports() -> list[Port]:
    """Return the USB serial ports, by name: a PC's own ports carry no boards."""
    return sorted(
        (
            Port(each.device, each.product or each.description or "", each.serial_number or "")
            for each in list_ports.comports()
            if each.vid is not None
        ),
        key=lambda port: port.device,
    )


def present(name: str) -> list[Port]:
    """Return the ports that are there now and are meant by this name: a path, a link, or AUTO."""
    found = usb_ports()
    if name == AUTO:
        return found
    path = os.path.realpath(name)
    usb = [port for port in found if os.path.realpath(port.device) == path]
    return usb or ([Port(name, "", "")] if os.path.exists(path) else [])


def choose(name: str) -> str:
    """Return the port to use. name: a path, or AUTO for the only board. Raises port-unknown."""
    if name != AUTO:
        return name
    found = usb_ports()
    if len(found) == 1:
        return found[0].device
    if not found:
        raise HostError("port-unknown", "no board is plugged in: there is no USB serial port")
    shown = ", ".join(map(str, found))
    raise HostError("port-unknown", f"{len(found)} boards are plugged in: {shown}")
