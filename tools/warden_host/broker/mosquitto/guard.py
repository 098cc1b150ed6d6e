"""Disable accounts at once, by a connection to the plugin that is always open.

An administrator's log-in takes several turns of a broker that a flood keeps busy, and its client
ID allows one connection at a time (registry.py). The guard has an account of its own and gives
one command: it disables an account, which drops its connection. All else follows by the registry.
"""

import contextlib
import json

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from warden_client import secretfile

from warden_host import names
from warden_host.fleet import tls
from warden_host.fleet.fleet import Fleet

GUARD_PASSWORD = "guard.password"  # noqa: S105  a file's name
_REQUEST = "$CONTROL/dynamic-security/v1"


class Guard:
    """The connection; paho restores it in the background."""

    def __init__(self, fleet: Fleet) -> None:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=names.GUARD)
        password = secretfile.read(fleet.keys / GUARD_PASSWORD).decode()
        client.username_pw_set(names.GUARD, password)
        client.tls_set_context(tls.context(fleet))
        client.reconnect_delay_set(1, 5)
        client.connect_async("127.0.0.1", fleet.settings.broker.admin_port, keepalive=30)
        client.loop_start()
        self._client = client

    def disable(self, username: str) -> None:
        """Refuse an account and drop its connection, as soon as the broker reads it.

        Nothing tells whether it did: the registry disables the account again, and knows.
        """
        command = {"command": "disableClient", "username": username}
        with contextlib.suppress(ValueError):
            self._client.publish(_REQUEST, json.dumps({"commands": [command]}).encode(), qos=1)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()
