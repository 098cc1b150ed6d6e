"""Names of accounts, and of commands that may be granted, beside those of the client package."""

from warden_client.names import (
    AUTHORITY,
    AUTHORITY_COMMANDS,
    OTP_EVENTS,
    OWN_PREFIX,
    PLAIN,
    PROTOCOL_COMMANDS,
    SEALED,
    TOPIC_LIMIT,
    Address,
    Topic,
    check_id,
    check_verb,
    is_authority_command,
    parse_topic,
    topic_base,
)

from warden_host.errors import HostError

__all__ = [
    "ADMIN",
    "AUTHORITY",
    "AUTHORITY_COMMANDS",
    "GUARD",
    "OTP_EVENTS",
    "OWN_PREFIX",
    "PLAIN",
    "PROBE",
    "PROTOCOL_COMMANDS",
    "SEALED",
    "TOPIC_LIMIT",
    "Address",
    "Topic",
    "app_client",
    "check_grant",
    "check_id",
    "check_verb",
    "device_client",
    "gateway_client",
    "is_authority_command",
    "is_open_client",
    "open_client",
    "parse_topic",
    "token_client",
    "topic_base",
]

SIMULATED = "UNIX"  # the board of `warden run`
ADMIN = "warden-admin"
GUARD = "warden-guard"  # disables accounts of flooders, by a connection that is always open
_OPEN = "o:"
PROBE = "warden-probe-"  # begins the client IDs with which a host looks for its own broker


def check_grant(command: str) -> str:
    """Return a command that an application may be granted; raises bad-name or reserved-command."""
    check_verb(command, "command")
    if is_authority_command(command) or command in PROTOCOL_COMMANDS:
        raise HostError(
            "reserved-command",
            f"'{command}' belongs to the protocol or to the authority alone",
            "give the command another name",
        )
    return command


def device_client(type_: str, device: str) -> str:
    """Return the MQTT client ID and user name of a device."""
    return f"d:{type_}:{device}"


def is_device_client(username: str) -> bool:
    """Return whether a user name is that of a device."""
    return username.startswith("d:")


def parse_device_client(username: str) -> tuple[str, str]:
    """Return type and ID of a device's user name or client ID; raises bad-name."""
    parts = username.split(":")
    if len(parts) != 3 or parts[0] not in ("d", "b"):
        raise HostError("bad-name", "not the user name of a device")
    return check_id(parts[1], "device type"), check_id(parts[2], "device ID")


def certified_client(type_: str, device: str) -> str:
    """Return the client ID of a device that needs certificate and password.

    Its user name is device_client(). The account takes no other client ID, so that the password
    alone opens nothing. No account and no certificate has this name: where the name is the client
    ID, a connection under it would end the device's.
    """
    return f"b:{type_}:{device}"


def certified_name(type_: str, device: str) -> str:
    """Return the certificate name of a device that needs a password or token besides.

    No account has it, and no client ID is that of a device, so that the certificate alone opens
    nothing.
    """
    return f"c:{type_}:{device}"


def app_client(appid: str) -> str:
    """Return the MQTT client ID and user name of an application."""
    return f"a:{appid}"


def gateway_client(name: str) -> str:
    """Return the MQTT client ID and user name of a gateway."""
    return f"g:{name}"


def is_other_client(username: str) -> bool:
    """Return whether it is an application's, a token's, a gateway's or an open device's."""
    return username.startswith(("a:", "t:", "g:", _OPEN)) and username != app_client(AUTHORITY)


def open_client(room: str, device: str) -> str:
    """Return the MQTT client ID and user name of a device in an open room, which anyone knows."""
    return f"{_OPEN}{room}:{device}"


def is_open_client(username: str) -> bool:
    """Return whether a user name is one that anyone knows: it proves nothing."""
    return username.startswith(_OPEN)


def token_client(appid: str, id_: str) -> str:
    """Return the MQTT client ID and user name that go with an application's token."""
    return f"t:{appid}:{id_}"
