"""Find what listens on this machine (Linux), and compare it with what the fleet needs."""

import contextlib
import os
import re
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from warden_host.addresses import canonical_address, is_loopback
from warden_host.errors import HostError

_FILES = (("tcp", "tcp", "0A"), ("tcp6", "tcp", "0A"), ("udp", "udp", "07"), ("udp6", "udp", "07"))
_SOCKET = re.compile(r"socket:\[(\d+)\]\Z")


@dataclass(frozen=True)
class Listening:
    """A socket that takes connections or datagrams. program: "" where this user may not know."""

    protocol: str
    address: str
    port: int
    program: str = ""

    @property
    def is_local(self) -> bool:
        """Return whether this machine alone reaches it."""
        return is_loopback(self.address)


@dataclass(frozen=True)
class Finding:
    """what: "open" beyond need, "missing", "exposed" (the administrator's port), or "ok"."""

    what: str
    text: str
    socket: Listening | None = None

    @property
    def bad(self) -> bool:
        return self.what in ("open", "exposed")


def listening(proc: Path = Path("/proc")) -> list[Listening]:
    """Return all sockets that listen. Raises not-applicable where /proc has no such list."""
    if not (proc / "net" / "tcp").is_file():
        raise HostError("not-applicable", "this machine has no /proc/net: this check is for Linux")
    programs = _programs(proc)
    found = {}
    for name, protocol, state in _FILES:
        with contextlib.suppress(OSError):
            for line in (proc / "net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                if len(fields) > 9 and fields[3] == state:
                    address, port = _address(fields[1])
                    made = Listening(protocol, address, port, programs.get(fields[9], ""))
                    found[protocol, address, port] = made
    return sorted(found.values(), key=lambda one: (one.protocol, one.port, one.address))


def check_ports(
    present: Collection[Listening],
    ports: Collection[int],
    admin_port: int,
    also: Collection[int],
) -> Iterator[Finding]:
    """Yield what is open beyond need, and what is missing.

    ports: the broker's for devices. also: TCP and UDP ports that the owner wants open.
    """
    for one in present:
        at = f"{one.protocol} {_host(one.address)}:{one.port}"
        by = f" ({one.program})" if one.program else ""
        if one.protocol == "tcp" and one.port in ports:
            yield Finding("ok", f"{at}{by}: the broker, for devices and applications", one)
        elif one.is_local:
            continue
        elif one.protocol == "tcp" and one.port == admin_port:
            yield Finding("exposed", f"{at}{by}: the broker's administrator, for the network", one)
        elif one.port in also:
            yield Finding("ok", f"{at}{by}: as you said", one)
        else:
            yield Finding("open", f"{at}{by}: none of the fleet's", one)
    there = {one.port for one in present if one.protocol == "tcp"}
    for port in sorted(set(ports) - there):
        yield Finding("missing", f"nothing listens on the broker's port {port}")


def _address(text: str) -> tuple[str, int]:
    """Return the address and port of a line in /proc/net: 32-bit words in the host's order."""
    words, _, port = text.partition(":")
    data = bytes.fromhex(words)
    if len(data) == 4:
        return socket.inet_ntop(socket.AF_INET, data[::-1]), int(port, 16)
    turned = b"".join(data[start : start + 4][::-1] for start in range(0, 16, 4))
    return canonical_address(socket.inet_ntop(socket.AF_INET6, turned)), int(port, 16)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _programs(proc: Path) -> dict[str, str]:
    """Return inode → program's name, for the processes that this user may look into."""
    found = {}
    for process in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (process / "comm").read_text().strip()
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    match = _SOCKET.match(os.readlink(descriptor))
                    if match is not None:
                        found[match[1]] = name
    return found
