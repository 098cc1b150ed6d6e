"""Make an application a party of its own: one file with all that it needs at the broker.

fleet.db says first that the application is exported: from then on `warden serve` does not log in
as it, so the application's own program is the only one with sessions under its keys. The file has
the last hello of each device that the authority proved, so that no older one counts anew.
"""

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from warden_client import secretfile
from warden_client.protocol import key_lists

from warden_host import jsontext, names
from warden_host.errors import HostError
from warden_host.fleet import pki
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY
from warden_host.protocol import policy
from warden_host.store.store import App, Device, Pair, Store

FORMAT = 1
KIND = "warden application"  # tells the file from any other JSON
MAX_FILE = 32 << 20  # a device takes some 600 bytes


def mark(store: Store, appid: str) -> None:
    """Mark the application as a party of its own. Raises app-unknown, not-applicable."""
    if appid == AUTHORITY:
        raise HostError(
            "not-applicable",
            "the authority is the fleet's own, and `warden serve` logs in as it",
            "register an application for the program: `warden app add`",
        )
    store.app(appid)
    store.set_exported(appid, time.time())


def served(store: Store) -> list[App]:
    """Return the applications that `warden serve` logs in as, besides the authority."""
    exported = store.exported()
    return [app for app in store.apps() if app.appid not in exported]


def for_served(store: Store, work: Callable[[list[App]], None]) -> None:
    """Call work(served(store)), again where an application goes between its row and its password.

    Raises: what work() does; key-missing where the application of that password is still there.
    """
    while True:
        apps = served(store)
        try:
            return work(apps)
        except HostError as error:
            if error.code != "key-missing" or served(store) == apps:
                raise


def document(fleet: Fleet, store: Store, appid: str) -> dict[str, Any]:
    """Return the content of the file (docs/formats.md), with a new secret for lists of keys.

    Raises app-unknown, key-missing.
    """
    app = store.app(appid)
    with store.transaction():  # what changes from here on comes by a list
        made = store.renew_list_secret(appid, secrets.token_bytes(key_lists.SECRET), time.time())
    broker = fleet.settings.broker
    user = names.app_client(appid)
    return {
        "kind": KIND,
        "format": FORMAT,
        "made": int(time.time()),
        "appid": appid,
        "types": list(app.types),
        "commands": list(app.commands),
        "broker": {
            "host": broker.host,
            "port": broker.port,
            "user": user,
            "password": fleet.app_password(appid).decode(),
            "client_id": user,
        },
        "trust": {
            "ca": (fleet.keys / "ca.crt").read_text(),
            "pins": [pin.hex() for pin in pki.load_pins(fleet.keys)],
        },
        "topics": _topics(app),
        "updates": {
            "secret": made.secret.hex(),
            "number": made.number,
            "topic": key_lists.list_topic(appid),
            "ask": key_lists.ask_topic(appid),
        },
        "devices": [
            _in_json(found)
            for device in store.devices()
            if (found := entry(store, device, appid)) is not None
        ],
    }


def check(path: Path, appid: str) -> None:
    """Raise bad-argument where the file is there and is no export of this application."""
    if not path.exists():
        return
    try:
        known = jsontext.parse_object(secretfile.read(path, MAX_FILE), MAX_FILE)
    except HostError:
        known = {}
    if known.get("kind") != KIND or known.get("appid") != appid:
        raise HostError(
            "bad-argument", f"{path} is there already, and no export of {appid}", "name a new file"
        )


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the file, mode 600; an older one is replaced in one step."""
    secretfile.write(path, jsontext.encode(content) + b"\n")


def _topics(app: App) -> dict[str, Any]:
    up = [f"{names.topic_base(type_, '+')}/evt/#" for type_ in app.types]
    down = names.topic_base("{type}", "{device}") + "/cmd/{command}/fmt/{fmt}"
    return {"subscribe": up, "command": down}


def entry(store: Store, device: Device, appid: str) -> dict[str, Any] | None:
    """Return a device's entry for an application, with bytes in the place of hex digits.

    None for one that was not provisioned for it, or that is cut off.
    """
    if device.ending is not None and device.ending.revoked:
        return None
    pair = next((pair for pair in device.pairs if pair.appid == appid), None)
    return None if pair is None else _entry(store, device, pair)


def _entry(store: Store, device: Device, pair: Pair) -> dict[str, Any]:
    made: dict[str, Any] = {
        "device": device.device,
        "type": device.type,
        "mode": device.mode,
        "commands": list(pair.commands),
        "max_message": policy.max_message(device.policy),
        "policies": [policy.policy_hash(device.policy)],
    }
    if device.next_policy is not None:
        made["policies"].append(policy.policy_hash(device.next_policy))
    if device.mode != "sealed":
        return made | {"uid": pair.uid}
    rotation = store.rotation(device.device)
    keys = [pair.k]
    following = {} if rotation is None else store.usable_keys(rotation)
    if following.get(pair.appid, pair.k) != pair.k:
        keys.append(following[pair.appid])
    return made | {
        "keys": keys,
        "proven": list(pair.proven),
        "event_number": pair.event_number,
    }


def _in_json(value: Any) -> Any:
    """Return the value with hex digits for bytes."""
    if isinstance(value, dict):
        return {key: _in_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_json(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value
