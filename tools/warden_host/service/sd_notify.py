"""Tell systemd when the service is ready, alive and stopping, as sd_notify(3) does.

Does nothing where systemd did not start this process.
"""

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send a state, such as "READY=1"; a manager that does not read costs nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    flags = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, flags) as channel:
        channel.connect(address)
        channel.send(state.encode())
