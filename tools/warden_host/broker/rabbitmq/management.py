"""Close connections and refuse users by RabbitMQ's HTTP API.

It verifies tokens by itself, and lets a line live on whose token was revoked.

warden.toml names the API; without the table nothing is asked:

    [rabbitmq]
    management = "http://127.0.0.1:15672"
    user = "warden"                          its password: keys/rabbitmq.password
"""

import base64
import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection
from typing import Any

from warden_client import secretfile

from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet, malformed

TABLE = "rabbitmq"
PASSWORD = "rabbitmq.password"  # noqa: S105  a file's name
_TIMEOUT_S = 10
_MAX_ANSWER = 16 << 20
# The password of the API's user would be readable on the network without TLS.
_ADDRESS = re.compile(
    r"(?:https://[A-Za-z0-9.-]+|http://(?:localhost|127\.0\.0\.1|\[::1\]))(?::[0-9]{1,5})?/?\Z"
)


LISTED_S = 6.0  # RabbitMQ lists a connection at most so long after its log-in


def close_connections(fleet: Fleet, client_ids: Collection[str]) -> int:
    """Close the connections of MQTT client IDs that begin so; return how many there were.

    RabbitMQ lists a connection once its statistics are collected, up to five seconds after the
    log-in, and accepts a token until its end: so this is called again and again.

    Raises: config-malformed, broker-refused, unreachable.
    """
    if not is_used(fleet) or not client_ids:
        return 0
    names = tuple(client_ids)
    # Scopes allow queues by their beginning, which a longer ID can have too.
    return _close(_Api(fleet), lambda one: _client_id(one).startswith(names))


def refuse(fleet: Fleet, username: str) -> int:
    """Let a user have no connection, and close those that are listed; return how many.

    Its password and its rights stay: admit() lets it in again. One that logged in within the last
    five seconds may be listed later: call it again then.

    Raises: as close_connections().
    """
    if not is_used(fleet):
        return 0
    api = _Api(fleet)
    api.ask(_limit(username), "PUT", {"value": 0})
    return _close(api, lambda one: one.get("user") == username)


def admit(fleet: Fleet, username: str) -> None:
    """Let a user that was refused connect again. Raises: as close_connections()."""
    if is_used(fleet):
        _Api(fleet).ask(_limit(username), "DELETE")


def is_used(fleet: Fleet) -> bool:
    """Return whether the fleet's clients are at RabbitMQ, by warden.toml."""
    return TABLE in fleet.document


def _limit(username: str) -> str:
    return f"user-limits/{urllib.parse.quote(username, safe='')}/max-connections"


def _close(api: "_Api", matches: Callable[[dict[str, Any]], bool]) -> int:
    listed: Any = api.ask("connections")
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise _other_form()
    found = [str(one.get("name")) for one in listed if matches(one)]
    for name in found:
        api.ask("connections/" + urllib.parse.quote(name, safe=""), "DELETE")
    return len(found)


class _Api:
    """Neither a redirect nor a proxy is followed: they would get the password."""

    def __init__(self, fleet: Fleet) -> None:
        self._address, user = _settings(fleet.document[TABLE])
        password = secretfile.read(fleet.keys / PASSWORD).decode().rstrip("\r\n")
        proof = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {proof}", "Content-Type": "application/json"}
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)

    def ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        # Only http and https: _settings() saw to it.
        request = urllib.request.Request(  # noqa: S310
            f"{self._address}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers=self._headers,
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                data = answer.read(_MAX_ANSWER)
            return json.loads(data) if data else None
        except urllib.error.HTTPError as error:
            if error.code == 404 and method == "DELETE":
                return None  # it ended by itself
            raise HostError(
                "broker-refused", f"RabbitMQ's HTTP API answers {error.code}", f"look at {TABLE}"
            ) from None
        except OSError as error:
            raise HostError(
                "unreachable", f"RabbitMQ's HTTP API does not answer ({type(error).__name__})"
            ) from None
        except (http.client.HTTPException, ValueError, RecursionError):
            raise _other_form() from None


def _settings(table: Any) -> tuple[str, str]:
    fields = table if isinstance(table, dict) else {}
    address, user = fields.get("management"), fields.get("user")
    if fields.keys() != {"management", "user"} or not isinstance(user, str):
        raise malformed(f"[{TABLE}] holds management and user")
    if not isinstance(address, str) or not _ADDRESS.match(address):
        raise malformed(
            f"{TABLE}.management is no https:// address; http:// is for this machine alone"
        )
    return address.rstrip("/"), user


def _client_id(connection: dict[str, Any]) -> str:
    variables = connection.get("variable_map")
    return str(variables.get("client_id", "")) if isinstance(variables, dict) else ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other that was not asked for."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _other_form() -> HostError:
    return HostError(
        "broker-refused", "RabbitMQ's HTTP API answers in another form", f"look at {TABLE}"
    )
