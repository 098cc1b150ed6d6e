"""Open rooms: devices without secrets beside the fleet's own, with accounts that anyone has.

The password is public, so an account proves nothing: who can reach the broker can send in a
device's name, or push it off. What an account may do is therefore to publish plain events of its
own name in its room, and nothing else: it reads nothing, and is given no command. A room's name is
the type in its topics, and no device and no application of the fleet is commanded under it.
"""

from warden_host import names
from warden_host.broker.accounts import open_account
from warden_host.broker.backend import open_registry
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.rooms import MOST_DEVICES
from warden_host.store.store import Store


def add(fleet: Fleet, store: Store, room: str, devices: tuple[str, ...]) -> tuple[str, ...]:
    """Let devices into a room; the first one makes it. Return the room's devices.

    Raises: bad-name, bad-argument for names that the fleet has, and for too many.
    """
    names.check_id(room, "room")
    for device in devices:
        names.check_id(device, "device ID")
    with open_registry(fleet) as accounts:
        known = {name: type_ for name, type_, _ in store.device_types()}
        taken = {name: one for name, one in store.open_devices().items() if one != room}
        found = tuple(sorted({*store.rooms().get(room, ()), *devices}))
        if room in known.values():
            raise HostError("bad-argument", f"the fleet has devices of type {room}")
        for device in devices:
            if device in known or device in taken:
                raise HostError("bad-argument", f"{device} is the name of another device")
        if len(found) > MOST_DEVICES:
            raise HostError("bad-argument", f"a room has {MOST_DEVICES} devices at most")
        with store.transaction():
            store.set_room(room, found)
        for device in devices:
            accounts.put(open_account(room, device))
    return found


def remove(fleet: Fleet, store: Store, room: str, devices: tuple[str, ...]) -> tuple[str, ...]:
    """Take devices out of a room, all of them where none is named; return those that are left.

    Their connections end. Raises bad-argument where the room has no such device.
    """
    with open_registry(fleet) as accounts:
        known = store.rooms().get(room, ())
        gone = devices or known
        if not gone or not set(gone) <= set(known):
            raise HostError("bad-argument", f"there is no such room or device: {room}")
        left = tuple(one for one in known if one not in gone)
        # The accounts first: after a stop in between, the same command finds the devices.
        for device in gone:
            account = open_account(room, device)
            accounts.remove(account.username, account.role)
        with store.transaction():
            store.set_room(room, left)
    return left
