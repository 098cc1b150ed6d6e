"""Compare what lies in the broker's folder with what Warden would write there."""

from warden_host.broker import connection
from warden_host.broker.mosquitto import dynsec
from warden_host.broker.mosquitto.broker import (
    CONF,
    find_plugin,
    largest_packet,
    wanted_listeners,
)
from warden_host.broker.mosquitto.config import configuration, listening
from warden_host.fleet.fleet import Fleet

# Topics outside the protocol, for the administrator and for guard.py alone.
_ADMIN_TOPICS = "$CONTROL/"
_ADMIN_ROLES = frozenset(("admin", "guard"))
_EVERYTHING = ("#", "+/#", "$SYS/#", "$CONTROL/#")


def outdated_settings(fleet: Fleet, records: list[bytes]) -> bool:
    """Return whether mosquitto.conf is another one than a start of the broker would write now.

    records: the policies of the fleet's devices. Raises: broker-missing, config-malformed.
    """
    path = fleet.broker / CONF
    if not path.exists():
        return False
    settings, terms = fleet.settings.broker, connection.load(fleet)
    ports = {one: terms.port(one, settings.port) for one in wanted_listeners(fleet, records)}
    wanted = configuration(
        settings, listening(settings), ports, largest_packet(fleet, records), find_plugin()
    )
    return path.read_text() != wanted


def weak_accounts(fleet: Fleet) -> list[str]:
    """Return a sentence for each account that may do more than Warden gives one.

    Raises registry-damaged, also where the defaults allow what no role names.
    """
    document = dynsec.load(fleet.broker)
    found = []
    roles = {str(role.get("rolename")): role.get("acls", []) for role in document["roles"]}
    for client in document["clients"]:
        name = str(client.get("username"))
        if not client.get("clientid"):
            found.append(f"{name} is bound to no client ID: it can push others off")
        names = [str(each.get("rolename")) for each in client.get("roles", [])]
        for topic in {str(acl.get("topic")) for role in names for acl in roles.get(role, [])}:
            admin = topic.startswith(_ADMIN_TOPICS) and not _ADMIN_ROLES.isdisjoint(names)
            if topic in _EVERYTHING or (topic.startswith("$") and not admin):
                found.append(f"{name} has rights to {topic}")
        if client.get("groups"):
            found.append(f"{name} is in a group, which Warden uses none of")
    return sorted(found)
