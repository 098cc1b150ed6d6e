"""Cut off an account that is none of a device with secrets, and let it in again."""

from warden_host import names
from warden_host.broker.backend import open_registry
from warden_host.broker.rabbitmq import management
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Store


def disable(fleet: Fleet, username: str) -> None:
    """Refuse an account at the broker, for good, and end its connection."""
    with open_registry(fleet) as accounts:
        accounts.disable(username)
    management.refuse(fleet, username)


def enable(fleet: Fleet, store: Store, username: str) -> None:
    """Let an account in again. Raises bad-name, app-unknown, gateway-unknown, bad-argument."""
    kind, _, rest = username.partition(":")
    if not names.is_other_client(username):
        raise HostError("bad-name", "not the account of an application or a gateway")
    if names.is_open_client(username):
        room, _, device = rest.partition(":")
        if store.open_devices().get(device) != room:
            raise HostError("bad-argument", f"there is no such open device: {rest}")
    else:
        _check_known(store, kind, rest)
    with open_registry(fleet) as accounts:
        accounts.enable(username)
    management.admit(fleet, username)


def _check_known(store: Store, kind: str, rest: str) -> None:
    name = names.check_id(rest.partition(":")[0], "application or gateway")
    if kind == "g":
        store.gateway(name)
    elif name not in {app.appid for app in store.apps()}:
        raise HostError("app-unknown", f"no application {name} in this fleet")
