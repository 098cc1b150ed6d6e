"""Ask RabbitMQ's HTTP API. It gets the password of its user, and nothing else does."""

import base64
import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from warden_client import secretfile

from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet, malformed
from warden_host.numerals import decimal

TABLE = "rabbitmq"
PASSWORD = "rabbitmq.password"  # noqa: S105  a file's name
_TIMEOUT_S = 10  # without a byte
_WHOLE_S = 30.0  # of an answer
_MAX_ANSWER = 16 << 20
# RabbitMQ tells 2 to 3 KiB of each connection otherwise: many clients would make the list longer
# than _MAX_ANSWER, and none of them could be closed.
_COLUMNS = "name,user,connected_at,recv_oct,variable_map.client_id"
# The password of the API's user would be readable on the network without TLS.
_ADDRESS = re.compile(
    r"(?:https://[A-Za-z0-9.-]+|http://(?:localhost|127\.0\.0\.1|\[::1\]))(?::([0-9]{1,5}))?/?\Z"
)
Connection = dict[str, Any]
_T = TypeVar("_T")


class Api:
    """Ask by one user. Neither a redirect nor a proxy is followed: it would get the password."""

    def __init__(self, fleet: Fleet) -> None:
        self._address, user = _settings(fleet.document[TABLE])
        self.passwords_only: bool = fleet.document[TABLE].get("passwords_only", False)
        password = secretfile.read(fleet.keys / PASSWORD).rstrip(b"\r\n")
        proof = base64.b64encode(user.encode() + b":" + password).decode()
        self._headers = {"Authorization": f"Basic {proof}", "Content-Type": "application/json"}
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)

    def user(self, username: str) -> dict[str, Any] | None:
        """Return a user of RabbitMQ's own; None for one that it only knows by a token."""
        found = self.ask(f"users/{quoted(username)}", none_at=404)
        if found is not None and not isinstance(found, dict):
            raise other_form()
        return found

    def connections(self) -> list[Connection]:
        """Return the connections that are listed."""
        return self.listed("connections?columns=" + _COLUMNS)

    def listed(self, path: str) -> list[dict[str, Any]]:
        """Return the objects of a list, which is empty where there is no such thing."""
        found: Any = self.ask(path, none_at=404)
        if found is None:
            return []
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise other_form()
        return found

    def close(self, matches: Callable[[Connection], bool]) -> int:
        """Close the listed connections that match; return how many there were.

        One that can't be closed keeps none of the others open.
        """
        found = [str(one.get("name")) for one in self.connections() if matches(one)]
        each(found, lambda name: self.delete("connections/" + quoted(name)))
        return len(found)

    def delete(self, path: str) -> None:
        """Delete a thing, which may be gone already."""
        self.ask(path, "DELETE", none_at=404)

    def ask(
        self, path: str, method: str = "GET", body: Any = None, none_at: int | None = None
    ) -> Any:
        """Return an answer's JSON, "" for an empty one, and None for the status none_at.

        Raises: broker-refused, unreachable.
        """
        # Only http and https: _settings() saw to it.
        request = urllib.request.Request(  # noqa: S310
            f"{self._address}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers=self._headers,
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                data = _whole(answer)
            found = json.loads(data) if data else ""
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == none_at:
                return None
            raise HostError(
                "broker-refused", f"RabbitMQ's HTTP API answers {error.code}", f"look at {TABLE}"
            ) from None
        except OSError as error:
            raise HostError(
                "unreachable", f"RabbitMQ's HTTP API does not answer ({type(error).__name__})"
            ) from None
        except (http.client.HTTPException, ValueError, RecursionError):
            raise other_form() from None
        if found is None:
            raise other_form()  # null: it is not the status none_at
        return found


def _settings(table: Any) -> tuple[str, str]:
    fields = table if isinstance(table, dict) else {}
    address, user = fields.get("management"), fields.get("user")
    if fields.keys() - {"passwords_only"} != {"management", "user"} or not isinstance(user, str):
        raise malformed(f"[{TABLE}] holds management and user, and may hold passwords_only")
    if type(fields.get("passwords_only", False)) is not bool:
        raise malformed(f"{TABLE}.passwords_only is neither true nor false")
    found = _ADDRESS.match(address) if isinstance(address, str) else None
    if found is None or (found[1] and decimal(found[1], 65535, 1) is None):
        raise malformed(
            f"{TABLE}.management is no https:// address; http:// is for this machine alone"
        )
    return found[0].rstrip("/"), user


def _whole(answer: http.client.HTTPResponse) -> bytes:
    """Return an answer's bytes. Raises broker-refused above _MAX_ANSWER, OSError when too late."""
    data, end = bytearray(), time.monotonic() + _WHOLE_S
    while part := answer.read1(1 << 16):
        data += part
        if len(data) > _MAX_ANSWER:
            raise other_form(f"with more than {_MAX_ANSWER >> 20} MiB")
        if time.monotonic() > end:
            raise TimeoutError
    return bytes(data)


def each(things: Iterable[_T], work: Callable[[_T], object]) -> None:
    """Do a piece of work for each thing, then raise the first refusal.

    Raises unreachable at once: nothing else would be answered.
    """
    first: HostError | None = None
    for thing in things:
        try:
            work(thing)
        except HostError as error:
            if error.code == "unreachable":
                raise
            first = first or error
    if first is not None:
        raise first


def quoted(name: str) -> str:
    """Return a name as one part of a path. Raises broker-refused for no text."""
    try:
        return urllib.parse.quote(name, safe="")
    except UnicodeError:
        raise other_form() from None


def client_id(connection: Connection) -> str:
    """Return the MQTT client ID of a listed connection, or ""."""
    variables = connection.get("variable_map")
    return str(variables.get("client_id", "")) if isinstance(variables, dict) else ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Have a redirect raise HTTPError, as every other status does that was not asked for."""

    def redirect_request(self, *_: Any) -> None:
        return None


def other_form(how: str = "in another form") -> HostError:
    """Return the error for an answer that this API does not give."""
    return HostError("broker-refused", f"RabbitMQ's HTTP API answers {how}", f"look at {TABLE}")
