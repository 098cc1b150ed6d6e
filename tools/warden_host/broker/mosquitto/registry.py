"""Change the broker's accounts, whether the broker runs or not.

Two locks: the running broker holds broker/lock; a process that edits the accounts or starts the
broker holds broker/edit.lock. While the broker runs, the plugin makes each change at once, over
$CONTROL on the loopback listener. Another program may listen there: the password is sent only to
a server with a certificate of the fleet's CA.

mosquitto sends no last will for a connection that its administrator drops, so each change that
drops a device's connection is reported to a running `warden serve`.
"""

import contextlib
import json
import queue
import secrets
import ssl
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from warden_client import secretfile

from warden_host import control_client, filelock, names
from warden_host.broker.accounts import Account, Registry, machine_password
from warden_host.broker.mosquitto import dynsec
from warden_host.broker.mosquitto.guard import GUARD_PASSWORD
from warden_host.errors import HostError
from warden_host.fleet import tls
from warden_host.fleet.fleet import Fleet

ADMIN_PASSWORD = "admin.password"  # noqa: S105  a file's name
_REQUEST = "$CONTROL/dynamic-security/v1"
_ANSWER_S = 10.0
_TURN_S = 30.0
_CONNECT_S = 10.0
_REPORT_S = 5.0
_AT_ONCE = 8  # rights in one command: with the longest names it still fits broker.LEAST_PACKET


def create(fleet: Fleet, *accounts: Account) -> None:
    """Make the registry of a new fleet, with an administrator and these accounts."""
    password = machine_password()
    secretfile.write(fleet.keys / ADMIN_PASSWORD, password.encode())
    dynsec.create(fleet.broker, dynsec.admin_account(password))
    for account in accounts:
        dynsec.put(fleet.broker, account)


@contextlib.contextmanager
def opened(fleet: Fleet) -> Iterator[Registry]:
    """Yield the registry of a stopped or a running broker; raises broker-refused, unreachable."""
    with exclusive_access(fleet):  # the administrator's client ID allows one connection
        running_lock = filelock.try_lock(fleet.broker / "lock")
        if running_lock is not None:
            with running_lock:  # edit.lock is held, so this one is not taken for a broker's
                yield _Stopped(fleet)
            return
        running = _Running(fleet)
        try:
            yield running
        finally:
            running.close()


def own_passwords(fleet: Fleet) -> dict[str, str]:
    """Return user name → password of the accounts whose password lies in the fleet's folder."""
    passwords = {names.ADMIN: secretfile.read(fleet.keys / ADMIN_PASSWORD).decode()}
    if (fleet.keys / GUARD_PASSWORD).exists():
        passwords[names.GUARD] = secretfile.read(fleet.keys / GUARD_PASSWORD).decode()
    for path in fleet.keys.glob("app-*.password"):
        appid = path.name.removeprefix("app-").removesuffix(".password")
        try:
            passwords[names.app_client(appid)] = fleet.app_password(appid).decode()
        except HostError as error:
            if error.code != "key-missing":  # the application was removed meanwhile
                raise
    return passwords


@contextlib.contextmanager
def exclusive_access(fleet: Fleet) -> Iterator[None]:
    """Keep others from editing the accounts or starting the broker; raises timed-out."""
    with filelock.wait_for_lock(
        fleet.broker / "edit.lock", "changing the broker's accounts", _TURN_S
    ):
        yield


class _Stopped:
    def __init__(self, fleet: Fleet) -> None:
        self._folder = fleet.broker

    def put(self, account: Account) -> None:
        dynsec.put(self._folder, account)

    def set_password(self, username: str, password: str) -> None:
        dynsec.set_password(self._folder, username, password)

    def disable(self, username: str) -> None:
        dynsec.set_disabled(self._folder, username, True)

    def enable(self, username: str) -> None:
        dynsec.set_disabled(self._folder, username, False)

    def replace_rights(self, account: Account) -> None:
        dynsec.replace_rights(self._folder, account)

    def remove(self, username: str, role: str) -> None:
        dynsec.remove(self._folder, username, role)


class _Running:
    """The administrator's connection to the plugin."""

    def __init__(self, fleet: Fleet) -> None:
        self._control = fleet.control
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._ready: queue.Queue[str] = queue.Queue()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=names.ADMIN)
        client.username_pw_set(names.ADMIN, secretfile.read(fleet.keys / ADMIN_PASSWORD).decode())
        client.tls_set_context(tls.context(fleet))
        client.connect_timeout = _CONNECT_S
        client.on_connect = self._on_connect
        client.on_subscribe = lambda *_: self._ready.put("")
        client.on_message = self._on_message
        self._client = client
        try:
            client.connect("127.0.0.1", fleet.settings.broker.admin_port, keepalive=30)
        except ssl.SSLError as error:
            raise HostError(
                "unreachable",
                f"what listens on the admin port is not this fleet's broker ({error.reason})",
                "look who listens there; a `warden serve` of an older version must start again",
            ) from None
        except OSError as error:
            raise HostError(
                "unreachable",
                "the broker's admin listener does not answer "
                f"({error.strerror or type(error).__name__})",
                "is another `warden` starting or stopping? try again",
            ) from None
        client.loop_start()
        self._next(self._ready)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def put(self, account: Account) -> None:
        self.remove(account.username, account.role)
        acls = dynsec.acl_entries(account)
        role = {"rolename": account.role}
        self._ask({"command": "createRole", "acls": acls[:_AT_ONCE]} | role)
        for entry in acls[_AT_ONCE:]:
            self._ask({"command": "addRoleACL"} | role | entry)
        self._ask(
            {
                "command": "createClient",
                "username": account.username,
                "clientid": account.bound_to,
                "password": account.password,
                "roles": [{"rolename": account.role, "priority": -1}],
            }
        )

    def set_password(self, username: str, password: str) -> None:
        self._ask({"command": "setClientPassword", "username": username, "password": password})
        self._report_dropped(username)

    def disable(self, username: str) -> None:
        if self._ask({"command": "disableClient", "username": username}, missing_ok=True):
            self._report_dropped(username)

    def enable(self, username: str) -> None:
        self._ask({"command": "enableClient", "username": username}, missing_ok=True)

    def replace_rights(self, account: Account) -> None:
        acls, role = dynsec.acl_entries(account), {"rolename": account.role}
        changed = {"command": "modifyRole", "acls": acls[:_AT_ONCE]} | role
        if self._ask(changed, missing_ok=True):
            for entry in acls[_AT_ONCE:]:
                self._ask({"command": "addRoleACL"} | role | entry)

    def remove(self, username: str, role: str) -> None:
        if self._ask({"command": "deleteClient", "username": username}, missing_ok=True):
            self._report_dropped(username)
        self._ask({"command": "deleteRole", "rolename": role}, missing_ok=True)

    def _report_dropped(self, username: str) -> None:
        """Report a dropped connection of a device; the change stands where that fails."""
        if names.is_device_client(username):
            request = {"op": "dropped", "client": username}
            with contextlib.suppress(HostError):
                control_client.call(self._control, request, _REPORT_S)

    def _ask(self, command: dict[str, Any], missing_ok: bool = False) -> bool:
        """Give the plugin a command. Returns: False where what it names is missing."""
        correlation = secrets.token_hex(8)
        body = json.dumps({"commands": [command | {"correlationData": correlation}]})
        self._client.publish(_REQUEST, body.encode(), qos=1)
        while True:
            answer = self._next(self._answers)
            if answer.get("correlationData") == correlation:
                break
        error = answer.get("error")
        if error is not None and not (missing_ok and "not found" in str(error)):
            # The plugin's own words, never the request: that holds the password.
            raise HostError("broker-refused", f"{command['command']}: {str(error)[:120]}")
        return error is None

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._ready.put(str(reason))
        else:
            client.subscribe(_REQUEST + "/response", qos=1)

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            for answer in json.loads(message.payload)["responses"]:
                self._answers.put(dict(answer))
        except (ValueError, KeyError, TypeError):
            return  # not an answer to us; the wait for one has its limit

    def _next(self, source: "queue.Queue[Any]") -> Any:
        try:
            item = source.get(timeout=_ANSWER_S)
        except queue.Empty:
            self.close()
            raise HostError("timed-out", "the broker's administration gives no answer") from None
        if isinstance(item, str) and item:
            self.close()
            raise HostError("broker-refused", f"the administrator can't log in ({item})")
        return item
