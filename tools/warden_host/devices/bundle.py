"""The provisioning bundle: secrets and settings for a new device, sent once to its stdin."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from warden_client.protocol import strictcbor

from warden_host.devices.token_terms import TokenTerms
from warden_host.devices.token_terms import check as check_token
from warden_host.errors import HostError
from warden_host.names import AUTHORITY
from warden_host.store.store import Device

MAX_APPS = 8
MAX_COMMANDS = 32
MAX_CA = 2048
MAX_NETWORKS = 8


@dataclass(frozen=True)
class Network:
    """A Wi-Fi network. password: "" for an open one."""

    ssid: str
    password: str = field(default="", repr=False)

    def record(self) -> list[object]:
        """Return [SSID, password], as a bundle and an order of the authority hold it."""
        return [self.ssid, self.password.encode()]


def check_networks(networks: Sequence[Network]) -> None:
    """Raise bad-argument for what no device takes. No password is in the text."""
    if len(networks) > MAX_NETWORKS:
        raise HostError("bad-argument", f"a device keeps {MAX_NETWORKS} Wi-Fi networks at most")
    if len({network.ssid for network in networks}) != len(networks):
        raise HostError("bad-argument", "a Wi-Fi network is named twice")
    for network in networks:
        for text in (network.ssid, network.password):
            try:
                text.encode()
            except UnicodeEncodeError:  # a byte of the command line that is no UTF-8
                raise HostError(
                    "bad-argument", "the name or password of a Wi-Fi network is not UTF-8"
                ) from None
        if not 1 <= len(network.ssid.encode()) <= 32:
            raise HostError("bad-argument", "the name of a Wi-Fi network has 1 to 32 bytes")
        if network.password and not 8 <= len(network.password.encode()) <= 64:
            raise HostError(
                "bad-argument",
                f"the password of {network.ssid} is neither empty nor of 8 to 64 bytes",
                "WPA takes 8 to 63 characters, or 64 hex digits; an open network has none",
            )


def build(
    device: Device,
    *,
    host: str,
    port: int,
    user: str,
    client_id: str,
    password: str,
    authorities: list[bytes],
    pins: list[bytes],
    release: list[object] | None = None,
    otp: list[object] | None = None,
    networks: Sequence[Network] = (),
    certificate: list[object] | None = None,
    token: TokenTerms | None = None,
    brokers: Sequence[list[object]] = (),
) -> bytes:
    """Return the bundle's bytes; raises bad-argument beyond the device's limits.

    authorities: CA certificates, DER. pins: SHA-256 each. release: whose updates the device
    takes, or None. otp: the secret that it checks codes with, or None. networks: Wi-Fi, in the
    order in which they are tried; none where the board is online without. certificate: [leaf,
    intermediate, key], DER, or None. token: where the device fetches tokens, or None. brokers:
    [host, port, weight] of each where there are several, with the way to log in where the device
    has a choice; the first is host and port.
    """
    if token is not None:
        check_token(token)
        user, password = token.user, ""  # the token is the password
    check_networks(networks)
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
        | ({} if certificate is None else {"certificate": certificate})
        | ({} if token is None else {"token": token.record()})
        | ({"brokers": list(brokers)} if len(brokers) > 1 else {})
        | {
            "v": 1,
            "identity": [device.type, device.device],
            "broker": [host, port, user.encode(), password.encode(), client_id],
            "trust": [authorities, pins],
            "policy": device.policy,
            "apps": [
                [pair.appid, pair.k, pair.appid == AUTHORITY, list(pair.commands)]
                for pair in pairs
            ],
            "network": [network.record() for network in networks] or None,
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
