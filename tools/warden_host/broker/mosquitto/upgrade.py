"""Bring a registry of an older version to what this one writes, while the broker is stopped."""

from typing import Any

from warden_client import secretfile

from warden_host import names
from warden_host.broker.accounts import Account, list_rights, machine_password
from warden_host.broker.mosquitto import dynsec
from warden_host.broker.mosquitto.guard import GUARD_PASSWORD
from warden_host.fleet.fleet import Fleet


def upgrade(fleet: Fleet) -> None:
    """Add the guard's account and rights for lists of keys; leave each device few subscriptions.

    Raises registry-damaged.
    """
    document = dynsec.load(fleet.broker)
    changed = _limit_subscriptions(document)
    changed |= _add_list_rights(document)
    known = any(entry.get("username") == names.GUARD for entry in document["clients"])
    if not known or not (fleet.keys / GUARD_PASSWORD).exists():
        password = machine_password()
        secretfile.write(fleet.keys / GUARD_PASSWORD, password.encode())
        account = dynsec.guard_account(password)
        dynsec.remove_from(document, account.username, account.role)
        dynsec.add(document, account)
        changed = True
    if changed:
        dynsec.save(fleet.broker, document)


def _limit_subscriptions(document: dict[str, Any]) -> bool:
    """Make each device's right to any narrower filter one to the two filters that clients use.

    Returns: whether there was one. mosquitto has no other limit of a client's subscriptions.
    """
    changed = False
    for role in document["roles"]:
        if not str(role.get("rolename")).startswith("device:"):
            continue
        kept = []
        for acl in role.get("acls", []):
            topic = str(acl.get("topic"))
            if acl.get("acltype") != "subscribePattern" or not topic.endswith("/cmd/#"):
                kept.append(acl)
                continue
            changed = True
            for name in (topic[:-1] + "+/fmt/+", topic):
                kept.append(acl | {"acltype": "subscribeLiteral", "topic": name})
        role["acls"] = kept
    return changed


def _add_list_rights(document: dict[str, Any]) -> bool:
    """Give each application its rights for lists of keys; return whether one lacked them."""
    changed = False
    for role in document["roles"]:
        kind, _, appid = str(role.get("rolename")).partition(":")
        if kind != "app":
            continue
        acls = role.setdefault("acls", [])
        known = {(acl.get("acltype"), acl.get("topic")) for acl in acls}
        wanted = dynsec.acl_entries(Account("", "", tuple(list_rights(appid)), ""))
        missing = [acl for acl in wanted if (acl["acltype"], acl["topic"]) not in known]
        acls += missing
        changed |= bool(missing)
    return changed
