"""Accounts of an MQTT broker: who may log in, and what each account may do with which topics.

Any broker's package turns these rights into its own words, and implements Registry. Rights end at
topics: which commands an application may give is in each device's vault, and checked there.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple, Protocol

from warden_client.protocol import key_lists

from warden_host import names
from warden_host.protocol.access_token import Scope
from warden_host.store.store import Device

OPEN_PASSWORD = "open"  # noqa: S105  of every device in an open room: it is no secret
ANY_TYPE = "+"  # MQTT's wildcard for one level
# What a device in quarantine is sent: no command of an application.
QUARANTINE_COMMANDS = (
    *("welcome", "ack", "wake"),
    *("update", "rotate", "policy", "token", "wipe"),
)


class Action(Enum):
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"  # to any filter that this one covers
    SUBSCRIBE_TO = "subscribe-to"  # to this very filter, so that a client has few subscriptions
    RECEIVE = "receive"  # be sent a message of a subscription


class Right(NamedTuple):
    """One action on one topic filter; without a right every action is refused."""

    action: Action
    topic: str


@dataclass(frozen=True)
class Account:
    """A login and the one role that goes with it."""

    username: str
    role: str
    rights: tuple[Right, ...]
    password: str = field(repr=False)
    client_id: str = ""  # that it is bound to; "": the user name

    @property
    def bound_to(self) -> str:
        """Return the client ID that the account logs in under."""
        return self.client_id or self.username


class Registry(Protocol):
    """The accounts of a fleet's broker, running or not."""

    def put(self, account: Account) -> None:
        """Add or replace an account with its role; the session of a replaced one is dropped."""

    def set_password(self, username: str, password: str) -> None:
        """Replace a password and drop the session; raises broker-refused for no such account."""

    def disable(self, username: str) -> None:
        """Refuse every log-in of the account and drop its session."""

    def enable(self, username: str) -> None:
        """Allow log-ins of the account again."""

    def replace_rights(self, account: Account) -> None:
        """Give the account's role exactly the account's rights."""

    def remove(self, username: str, role: str) -> None:
        """Remove an account and its role, and drop its session."""


def device_password() -> str:
    """Return a password of 32 code points drawn evenly from U+0001 to U+07FF: 352 bits.

    It is valid UTF-8 without NUL: mosquitto cuts a password at a NUL and passes it on as JSON.
    """
    return "".join(chr(1 + secrets.randbelow(0x7FF)) for _ in range(32))


def machine_password() -> str:
    """Return a password of 256 bits in hex, for an application or the administrator."""
    return secrets.token_hex(32)


def _subscriptions(base: str) -> tuple[Right, ...]:
    """Return the rights to the filter of the device's firmware, and to that of other clients."""
    return tuple(
        Right(Action.SUBSCRIBE_TO, f"{base}/{filter_}") for filter_ in ("cmd/+/fmt/+", "cmd/#")
    )


def device_account(type_: str, device: str, password: str) -> Account:
    """Return a device's account: it publishes its events and receives its commands."""
    base = names.topic_base(type_, device)
    rights = (
        Right(Action.PUBLISH, base + "/evt/#"),
        *_subscriptions(base),
        Right(Action.RECEIVE, base + "/cmd/#"),
    )
    return Account(
        names.device_client(type_, device), f"device:{type_}:{device}", rights, password
    )


def certified_account(type_: str, device: str, password: str) -> Account:
    """Return the account of a device that needs a certificate besides its password.

    Only the listener for both takes its client ID: the others put the user name in its place.
    """
    account = device_account(type_, device, password)
    return replace(account, client_id=names.certified_client(type_, device))


def sealed_account(type_: str, device: str, password: str) -> Account:
    """Return the account of a device without TLS: sealed messages, and its last will.

    Its password can be read on the network. An attacker who uses it can push the device off, and
    drop what is sent to it; what it publishes opens no session.
    """
    base = names.topic_base(type_, device)
    rights = (
        Right(Action.PUBLISH, f"{base}/evt/+/fmt/{names.SEALED}"),
        Right(Action.PUBLISH, f"{base}/evt/offline/fmt/{names.PLAIN}"),
        *_subscriptions(base),
        Right(Action.RECEIVE, f"{base}/cmd/+/fmt/{names.SEALED}"),
    )
    return Account(
        names.device_client(type_, device), f"device:{type_}:{device}", rights, password
    )


def wipe_only_account(type_: str, device: str) -> Account:
    """Return the account of a device that is to be wiped: a session and that order, no more.

    The password is empty: the account keeps the one that it has.
    """
    base = names.topic_base(type_, device)
    up = ("hello", "ready", "reply")
    down = ("welcome", "ack", "wake", "wipe")
    rights = (
        *(Right(Action.PUBLISH, f"{base}/evt/{event}/fmt/{names.SEALED}") for event in up),
        *_subscriptions(base),
        *(Right(Action.RECEIVE, f"{base}/cmd/{verb}/fmt/{names.SEALED}") for verb in down),
    )
    return Account(names.device_client(type_, device), f"device:{type_}:{device}", rights, "")


def quarantine_account(type_: str, device: str, plain: bool = False) -> Account:
    """Return the account of a device in quarantine: session, incidents, updates, new secrets.

    plain: whether it is in plain mode: then its reports alone. The password is empty, as above.
    """
    base = names.topic_base(type_, device)
    fmt = names.PLAIN if plain else names.SEALED
    up = ("reply", "incident") if plain else ("hello", "ready", "reply", "incident", "offline")
    down = () if plain else QUARANTINE_COMMANDS
    rights = (
        *(Right(Action.PUBLISH, f"{base}/evt/{event}/fmt/{fmt}") for event in up),
        Right(Action.PUBLISH, f"{base}/evt/offline/fmt/{names.PLAIN}"),  # its last will
        *_subscriptions(base),
        *(Right(Action.RECEIVE, f"{base}/cmd/{verb}/fmt/{names.SEALED}") for verb in down),
    )
    return Account(names.device_client(type_, device), f"device:{type_}:{device}", rights, "")


def gateway_account(name: str, devices: Iterable[Device], password: str) -> Account:
    """Return the account of a gateway: what each of its devices may do without TLS, together.

    devices: those that it relays for. A device that is to be wiped has the rights for that alone,
    and one in quarantine those of its quarantine.
    """
    rights: list[Right] = []
    for one in devices:
        if one.ending is not None and one.ending.wipe:
            account = wipe_only_account(one.type, one.device)
        elif one.reaction is not None:
            account = quarantine_account(one.type, one.device)
        else:
            account = sealed_account(one.type, one.device, "")
        rights += account.rights
    return Account(names.gateway_client(name), f"gateway:{name}", tuple(rights), password)


def open_account(room: str, device: str) -> Account:
    """Return the account of a device in an open room: it publishes plain events, reads nothing.

    Its password is public.
    """
    topic = f"{names.topic_base(room, device)}/evt/+/fmt/{names.PLAIN}"
    username = names.open_client(room, device)
    return Account(
        username, f"open:{room}:{device}", (Right(Action.PUBLISH, topic),), OPEN_PASSWORD
    )


def app_account(appid: str, types: tuple[str, ...], password: str) -> Account:
    """Return an application's account: it publishes commands to its types and gets their events.

    types: device types; (ANY_TYPE,) is for the authority alone.
    """
    rights = list_rights(appid)
    for type_ in types:
        base = names.topic_base(type_, ANY_TYPE)
        rights += [
            Right(Action.SUBSCRIBE, base + "/evt/#"),
            Right(Action.RECEIVE, base + "/evt/#"),
            Right(Action.PUBLISH, base + "/cmd/#"),
        ]
    return Account(names.app_client(appid), f"app:{appid}", tuple(rights), password)


def list_rights(appid: str) -> list[Right]:
    """Return the rights for lists of keys: to get one's own, or the authority's to send all."""
    if appid == names.AUTHORITY:
        asked = key_lists.ask_topic(ANY_TYPE)
        return [
            Right(Action.SUBSCRIBE_TO, asked),
            Right(Action.RECEIVE, asked),
            Right(Action.PUBLISH, key_lists.list_topic(ANY_TYPE)),
        ]
    sent = key_lists.list_topic(appid)
    return [
        Right(Action.SUBSCRIBE_TO, sent),
        Right(Action.RECEIVE, sent),
        Right(Action.PUBLISH, key_lists.ask_topic(appid)),
    ]


def token_account(appid: str, id_: str, scope: Scope, password: str) -> Account:
    """Return the account of an application's token: exactly what its scope allows.

    password: the token.
    """
    rights: list[Right] = []
    for type_ in scope.types:
        base = names.topic_base(type_, ANY_TYPE)
        if scope.read:
            rights += [
                Right(Action.SUBSCRIBE, base + "/evt/#"),
                Right(Action.RECEIVE, base + "/evt/#"),
            ]
        for command in scope.commands:
            rights.append(Right(Action.PUBLISH, f"{base}/cmd/{command}/fmt/+"))
    username = names.token_client(appid, id_)
    return Account(username, f"token:{id_}", tuple(rights), password)
