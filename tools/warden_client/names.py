"""Names and topics (docs/protocol.md, Names).

A name is checked here before it reaches a topic, a path or an ACL: a `+`, `#` or `/` in a device
ID would widen what an ACL allows, and a `..` would leave the fleet folder.
"""

import functools
import re
from typing import NamedTuple

from warden_client.errors import HostError

AUTHORITY = "authority"
SEALED = "cose"
PLAIN = "json"

PROTOCOL_COMMANDS = frozenset(
    {"welcome", "ack", "wake", "server_uid_response", "server_otp_response", "server_otp_validate"}
)
# Their fields stand beside each other, in plain mode too, and none of them is kept or shown.
OTP_EVENTS = frozenset({"server_otp_request", "device_otp_response"})
# Only the authority may ever give these and what begins with OWN_PREFIX, so no application can
# register them.
AUTHORITY_COMMANDS = frozenset(
    {"update", "policy", "rotate", "wipe", "wifi", "develop", "token", "apps"}
)
OWN_PREFIX = "warden_"

_ID = re.compile(r"[A-Za-z0-9_-]{1,32}\Z", re.ASCII)
_VERB = re.compile(r"[a-z0-9_]{1,32}\Z", re.ASCII)
TOPIC_LIMIT = 256


class Address(NamedTuple):
    """One device as one application sees it: the X of the key schedule without its version."""

    type: str
    device: str
    appid: str


class Topic(NamedTuple):
    type: str
    device: str
    way: str  # "evt" up, "cmd" down
    verb: str
    fmt: str

    def __str__(self) -> str:
        return f"{topic_base(self.type, self.device)}/{self.way}/{self.verb}/fmt/{self.fmt}"


def topic_base(type_: str, device: str) -> str:
    """Return the beginning of all topics of a device; "+" for any device of the type, or type."""
    return f"iot-2/type/{type_}/id/{device}"


def is_authority_command(command: str) -> bool:
    """Return whether a command is the authority's own on every device."""
    return command in AUTHORITY_COMMANDS or command.startswith(OWN_PREFIX)


def check_id(value: str, what: str) -> str:
    """Return a device type, device ID or application ID; raises bad-name."""
    return _check(_ID, value, what, "A-Z a-z 0-9 _ -")


def check_verb(value: str, what: str) -> str:
    """Return an event or command name; raises bad-name."""
    return _check(_VERB, value, what, "a-z 0-9 _")


@functools.lru_cache(1024)  # a device sends few kinds of events again and again
def parse_topic(text: str) -> Topic:
    """Return the fields of a protocol topic; raises bad-topic."""
    parts = text.split("/") if len(text) <= TOPIC_LIMIT else []
    if len(parts) != 9 or (parts[0], parts[1], parts[3], parts[7]) != (
        "iot-2",
        "type",
        "id",
        "fmt",
    ):
        raise HostError("bad-topic", "not a topic of ours")
    topic = Topic(parts[2], parts[4], parts[5], parts[6], parts[8])
    if (
        not _ID.match(topic.type)
        or not _ID.match(topic.device)
        or not _VERB.match(topic.verb)
        or topic.way not in ("evt", "cmd")
        or topic.fmt not in (SEALED, PLAIN)
    ):
        raise HostError("bad-topic", "a name in the topic is outside its alphabet")
    return Topic(*map(_shared, topic))  # a fleet has few of each in a thousand topics


@functools.lru_cache(4096)
def _shared(word: str) -> str:
    """Return one object for equal words.

    Not sys.intern(): from Python 3.12 on it keeps each word for ever, and a sender chooses them.
    """
    return word


def _check(pattern: "re.Pattern[str]", value: str, what: str, alphabet: str) -> str:
    if not pattern.match(value):
        shown = repr(value if len(value) <= 40 else value[:40] + "…")
        raise HostError(
            "bad-name",
            f"{what} {shown} is outside the alphabet",
            f"use 1 to 32 characters of {alphabet}",
        )
    return value
