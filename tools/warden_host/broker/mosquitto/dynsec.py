"""The file of mosquitto's dynamic-security plugin: accounts, roles and their ACLs, as JSON.

While the broker is stopped, this module edits that file; while it runs, only the plugin may
(registry.py asks it over $CONTROL). The plugin's defaults would let a device log in under another
one's client ID, disconnect it and inherit its queue, so here everything is denied that a role does
not name, and every account is bound to its client ID.
"""

import base64
import hashlib
import json
import secrets
from pathlib import Path
from typing import Any

from warden_client import secretfile

from warden_host import names
from warden_host.broker.accounts import Account, Action, Right
from warden_host.errors import HostError

FILE = "dynamic-security.json"
# mosquitto's own default. Every password has at least 256 random bits, so the count need not slow
# down guessing, and each log-in holds the broker's only thread for it: 10,000 devices that come
# back wait for 12 ms each at 10,000 iterations, and for 0.2 ms each at 101.
ITERATIONS = 101
SALT = 12  # what the plugin of mosquitto 2.0 accepts
# Room for 50,000 devices with the longest names (1.2 KB each), or nearly 30,000 that are to be
# wiped (2.2 KB each).
MAX_REGISTRY = 64 << 20
DEFAULTS = {
    "publishClientSend": False,
    "publishClientReceive": False,
    "subscribe": False,
    "unsubscribe": True,
}
_ACL_TYPES = {
    Action.PUBLISH: "publishClientSend",
    Action.SUBSCRIBE: "subscribePattern",
    Action.SUBSCRIBE_TO: "subscribeLiteral",
    Action.RECEIVE: "publishClientReceive",
}
_ENCODED = "encoded_password"


def admin_account(password: str) -> Account:
    """Return the administrator's account, for the plugin's own topics."""
    topic = "$CONTROL/dynamic-security/#"
    rights = tuple(
        Right(action, topic) for action in (Action.PUBLISH, Action.RECEIVE, Action.SUBSCRIBE)
    )
    return Account(names.ADMIN, "admin", rights, password)


def guard_account(password: str) -> Account:
    """Return the account that gives the plugin one command (guard.py)."""
    rights = (Right(Action.PUBLISH, "$CONTROL/dynamic-security/v1"),)
    return Account(names.GUARD, "guard", rights, password)


def create(folder: Path, admin: Account) -> None:
    """Write a registry that has the administrator alone."""
    document = {"defaultACLAccess": DEFAULTS, "clients": [], "groups": [], "roles": []}
    add(document, admin)
    save(folder, document)


def put(folder: Path, account: Account) -> None:
    """Add or replace an account; only while the broker is stopped."""
    document = load(folder)
    remove_from(document, account.username, account.role)
    add(document, account)
    save(folder, document)


def set_password(folder: Path, username: str, password: str) -> None:
    """Replace a password while the broker is stopped; raises broker-refused for none."""
    document = load(folder)
    for entry in document["clients"]:
        if entry.get("username") == username:
            _set_entry_password(entry, password)
            save(folder, document)
            return
    raise HostError("broker-refused", "setClientPassword: no such account")


def set_disabled(folder: Path, username: str, disabled: bool) -> None:
    """Refuse or allow log-ins, while the broker is stopped; ignore an unknown account."""
    document = load(folder)
    for entry in document["clients"]:
        if entry.get("username") == username:
            entry.pop("disabled", None)
            if disabled:
                entry["disabled"] = True
    save(folder, document)


def replace_rights(folder: Path, account: Account) -> None:
    """Replace the rights of the account's role; only while the broker is stopped."""
    document = load(folder)
    for entry in document["roles"]:
        if entry.get("rolename") == account.role:
            entry["acls"] = acl_entries(account)
    save(folder, document)


def remove(folder: Path, username: str, role: str) -> None:
    """Remove an account and its role; only while the broker is stopped."""
    document = load(folder)
    remove_from(document, username, role)
    save(folder, document)


def convert_to_2_0(folder: Path, known: dict[str, str]) -> list[str]:
    """Rewrite what the plugin of mosquitto 2.1 saved, for that of 2.0; only while it is stopped.

    2.1 saves each password as one field, which 2.0 does not know: it would refuse every log-in.
    known: user name → password, for accounts whose password is at hand.
    Returns the user names whose password 2.0 can't check: 2.1 made them, with a longer salt.
    """
    if _ENCODED.encode() not in secretfile.read(folder / FILE, MAX_REGISTRY, "registry-damaged"):
        return []
    document = load(folder)
    lost = []
    for entry in document["clients"]:
        if _ENCODED not in entry:
            continue
        fields = _decoded(str(entry[_ENCODED]))
        if entry.get("username") in known:
            _set_entry_password(entry, known[entry["username"]])
        elif fields is not None:
            del entry[_ENCODED]
            entry.update(fields)
        else:
            lost.append(str(entry.get("username")))
    save(folder, document)
    return lost


def acl_entries(account: Account) -> list[dict[str, Any]]:
    """Return the role's ACLs in the plugin's form."""
    return [
        {"acltype": _ACL_TYPES[action], "topic": topic, "priority": 0, "allow": True}
        for action, topic in account.rights
    ]


def add(document: dict[str, Any], account: Account) -> None:
    """Add an account and its role to the document."""
    document["roles"].append({"rolename": account.role, "acls": acl_entries(account)})
    document["clients"].append(
        {
            "username": account.username,
            "clientid": account.bound_to,
            "roles": [{"rolename": account.role, "priority": -1}],
        }
        | password_fields(account.password)
    )


def _set_entry_password(entry: dict[str, Any], password: str) -> None:
    """Replace the password of an entry, without the field that 2.1 would read before it."""
    entry.pop(_ENCODED, None)
    entry.update(password_fields(password))


def _decoded(encoded: str) -> dict[str, Any] | None:
    """Return the fields of 2.0 for `$7$ITERATIONS$SALT$HASH`; None for what 2.0 can't check."""
    parts = encoded.split("$")
    if len(parts) != 5 or parts[:2] != ["", "7"]:
        return None
    try:
        iterations = int(parts[2])
        if len(base64.b64decode(parts[3], validate=True)) != SALT:
            return None
    except ValueError:
        return None
    return {"password": parts[4], "salt": parts[3], "iterations": iterations}


def password_fields(password: str) -> dict[str, Any]:
    """Return a password's fields in the form of 2.0, which 2.1 reads as well."""
    salt = secrets.token_bytes(SALT)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return {
        "password": base64.b64encode(digest).decode(),
        "salt": base64.b64encode(salt).decode(),
        "iterations": ITERATIONS,
    }


def remove_from(document: dict[str, Any], username: str, role: str) -> None:
    """Remove an account and its role from the document, if they are there."""
    clients, roles = document["clients"], document["roles"]
    document["clients"] = [entry for entry in clients if entry.get("username") != username]
    document["roles"] = [entry for entry in roles if entry.get("rolename") != role]


def load(folder: Path) -> dict[str, Any]:
    """Return the registry's document; raises registry-damaged."""
    try:
        document = json.loads(secretfile.read(folder / FILE, MAX_REGISTRY, "registry-damaged"))
        lists = (document["clients"], document["roles"])
        defaults = document["defaultACLAccess"]
    except (ValueError, KeyError, TypeError, RecursionError):
        lists, defaults = (None, None), None
    if not all(_are_objects(part) for part in lists):
        raise HostError(
            "registry-damaged", f"broker/{FILE} can't be read", "restore it from a backup"
        )
    if defaults != DEFAULTS:
        raise HostError(
            "registry-damaged",
            f"broker/{FILE} allows by default what no role names",
            "defaultACLAccess was changed: put it back and look for the reason",
        )
    result: dict[str, Any] = document
    return result


def _are_objects(part: Any) -> bool:
    """Return whether a part of the document is a list of objects."""
    return isinstance(part, list) and all(isinstance(entry, dict) for entry in part)


def save(folder: Path, document: dict[str, Any]) -> None:
    """Replace the registry's file by this document."""
    secretfile.write(folder / FILE, json.dumps(document, indent=1).encode())
