"""Callers of the API of `warden serve --web`, and the tokens that they show."""

import http.client
import json
import socket
from typing import Any

import websockets.sync.client
from process_kit import PATIENCE_S
from warden_host.devices import app_tokens
from warden_host.fleet.fleet import Fleet
from warden_host.protocol.access_token import Scope
from warden_host.store.store import Store

JSON = "application/json"


def token_of(fleet: Fleet, scope: Scope, appid: str = "home") -> tuple[str, str]:
    """Return the ID and the text of a new token."""
    with Store(fleet.database) as store:
        made, text = app_tokens.issue(fleet, store, appid, scope, 1)
    return made.id, text


class Caller:
    """A program that calls the API with a token."""

    def __init__(self, port: int, token: str = "") -> None:
        self.port = port
        self.token = token
        self.headers: dict[str, str] = {}

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return the status and the answer. A header without a value is left out."""
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None and not isinstance(body, str):
            body = json.dumps(body)
        if body is not None:
            sent["Content-Type"] = JSON
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request(
            method, "/api/v1" + path, body, {key: value for key, value in sent.items() if value}
        )
        answer = connection.getresponse()
        data = answer.read()
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        connection.close()
        return answer.status, json.loads(data) if data else None

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        return self.ask("GET", path, **headers)

    def command(self, device: str, command: str, **fields: Any) -> tuple[int, Any]:
        return self.ask("POST", f"/devices/{device}/commands", {"command": command} | fields)

    def stream(self, **options: Any) -> "Stream":
        """Return a WebSocket that has shown the token."""
        return Stream(self.port, self.token, **options)


class Stream:
    """A WebSocket of the API. token: to show at first; "" for none."""

    def __init__(self, port: int, token: str = "", **options: Any) -> None:
        self._token = token
        self._waiting: list[Any] = []
        address = f"ws://127.0.0.1:{port}/api/v1/events"
        self._opening = websockets.sync.client.connect(address, proxy=None, **options)

    def __enter__(self) -> "Stream":
        self.socket = self._opening.__enter__()
        if self._token:
            self.send(kind="token", token=self._token)
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def next(self, **wanted: Any) -> Any:
        """Return the next message with these fields; others that came wait for their turn."""

        def is_wanted(message: Any) -> bool:
            return all(message.get(name) == value for name, value in wanted.items())

        while not any(map(is_wanted, self._waiting)):
            self._waiting.append(json.loads(self.socket.recv(timeout=PATIENCE_S)))
        found = next(filter(is_wanted, self._waiting))
        self._waiting.remove(found)
        return found

    def ends(self) -> int:
        """Return the status with which the server ends it."""
        try:
            while True:
                self.socket.recv(timeout=PATIENCE_S)
        except websockets.exceptions.ConnectionClosed:
            return self.socket.close_code or 0


def upgrade(port: int, *headers: str, path: str = "/api/v1/events", upgrading: bool = True) -> int:
    """Ask for a WebSocket with these headers; return the status of the answer."""
    lines = [f"GET {path} HTTP/1.1", *headers]
    if upgrading:
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines.append("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = b""
        while b"\r\n" not in head:
            head += connection.recv(4096)
    return int(head.split()[1])
