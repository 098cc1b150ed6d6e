"""The provisioning bundle: secrets and settings for a new device, sent once to its stdin."""

import struct

from warden_host.errors import HostError
from warden_host.names import AUTHORITY
from warden_host.protocol import strictcbor
from warden_host.store.store import Device

MAX_APPS = 8
MAX_COMMANDS = 32
MAX_CA = 2048


def build(
    device: Device,
    *,
    host: str,
    port: int,
    client_id: str,
    password: str,
    authorities: list[bytes],
    pins: list[bytes],
    release: list[object] | None = None,
    otp: list[object] | None = None,
) -> bytes:
    """Return the bundle's bytes; raises bad-argument beyond the device's limits.

    authorities: CA certificates, DER. pins: SHA-256 each. release: whose updates the device
    takes, or None. otp: the secret that it checks codes with, or None.
    """
    pairs = device.pairs
    if not 1 <= len(pairs) <= MAX_APPS or sum(pair.appid == AUTHORITY for pair in pairs) != 1:
        raise HostError(
            "bad-argument",
            f"a device accepts the authority and at most {MAX_APPS - 1} applications",
            "name the applications that it should obey",
        )
    for pair in pairs:
        check_commands(pair.appid, pair.commands)
    if not 1 <= len(authorities) <= 4 or any(len(der) > MAX_CA for der in authorities):
        raise HostError("bad-argument", "1 to 4 CA certificates of at most 2048 bytes")
    if not 2 <= len(set(pins)) <= 6 or len(set(pins)) != len(pins):
        raise HostError("bad-argument", "2 to 6 different pins: the live key's and a backup's")
    return strictcbor.encode(
        ({} if release is None else {"release": release})
        | ({} if otp is None else {"otp": otp})
        | {
            "v": 1,
            "identity": [device.type, device.device],
            "broker": [host, port, client_id.encode(), password.encode(), client_id],
            "trust": [authorities, pins],
            "policy": device.policy,
            "apps": [
                [pair.appid, pair.k, pair.appid == AUTHORITY, list(pair.commands)]
                for pair in pairs
            ],
            "network": None,
        }
    )


def check_commands(appid: str, commands: tuple[str, ...]) -> None:
    """Raise bad-argument for more commands than a device keeps."""
    if len(commands) > MAX_COMMANDS:
        raise HostError(
            "bad-argument",
            f"{appid} has {len(commands)} commands, and a device takes {MAX_COMMANDS} of each",
            'join some: a command has arguments, such as set_relay {"on": 1}',
        )


def framed(data: bytes) -> bytes:
    """Return the bytes after their length, 4 bytes big-endian."""
    return struct.pack(">I", len(data)) + data
