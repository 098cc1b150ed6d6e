"""Bring a registry of an older version to what this one writes, while the broker is stopped."""

from typing import Any

from warden_client import secretfile

from warden_host import names
from warden_host.broker.accounts import machine_password
from warden_host.broker.mosquitto import dynsec
from warden_host.broker.mosquitto.guard import GUARD_PASSWORD
from warden_host.fleet.fleet import Fleet


def upgrade(fleet: Fleet) -> None:
    """Add the guard's account, and leave each device one subscription. Raises registry-damaged."""
    document = dynsec.load(fleet.broker)
    changed = _leave_one_subscription(document)
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


def _leave_one_subscription(document: dict[str, Any]) -> bool:
    """Make rights to any narrower filter rights to the one that devices subscribe to.

    Returns: whether there was one. mosquitto has no other limit of a client's subscriptions.
    """
    changed = False
    for role in document["roles"]:
        if str(role.get("rolename")).startswith("device:"):
            for acl in role.get("acls", []):
                if acl.get("acltype") == "subscribePattern":
                    acl["acltype"] = "subscribeLiteral"
                    changed = True
    return changed
