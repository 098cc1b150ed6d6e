"""RabbitMQ's HTTP API as 3.10 answers it: users, limits, rights for topics and connections."""

import base64
import contextlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from host_kit import new_fleet
from warden_client import secretfile
from warden_host.broker.rabbitmq import management
from warden_host.devices import setup
from warden_host.fleet.fleet import CONFIG, Fleet
from warden_host.protocol import policy
from warden_host.store.store import App, Device, Store

API_PASSWORD = "of the API's user"
_PROOF = "Basic " + base64.b64encode(f"warden:{API_PASSWORD}".encode()).decode()


class RabbitModel:
    """users: name → its hash and tags. limits, rights: user → what was set. down: answers 500.

    refused: paths for which it answers 500 to all but GET.
    """

    def __init__(self, *users: str) -> None:
        self.users: dict[str, dict[str, Any]] = {name: {"tags": ["policymaker"]} for name in users}
        self.limits: dict[str, int] = {}
        self.rights: dict[str, dict[str, str]] = {}
        self.connections: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []
        self.refused: set[str] = set()
        self.down = False

    def connect(self, user: str, client_id: str = "", received: int = 0) -> str:
        """Add a connection; return its name, which has characters of a path."""
        name = f"127.0.0.1:{len(self.asked)}{len(self.connections)} -> 127.0.0.1:8883"
        variables = {"client_id": client_id or user}
        one = {"name": name, "user": user, "variable_map": variables, "recv_oct": received}
        self.connections.append(one | {"connected_at": 1})
        return name

    @property
    def client_ids(self) -> list[str]:
        return [one["variable_map"]["client_id"] for one in self.connections]

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Return status and JSON; None for no body."""
        self.asked.append((method, path))
        if self.down or (method != "GET" and path in self.refused):
            return 500, None
        path, _, columns = path.partition("?columns=")
        kind, *parts = [urllib.parse.unquote(part) for part in path.split("/")]
        if kind == "connections":
            if method == "DELETE":
                before = len(self.connections)
                self.connections = [one for one in self.connections if one["name"] != parts[0]]
                return (204 if len(self.connections) < before else 404), None
            return 200, [_only(one, columns.split(",")) for one in self.connections]
        if kind == "users" and columns:
            return 200, [{"name": name} for name in self.users]
        if kind == "users" and method == "GET":
            known = self.users.get(parts[0])
            return (404, {"error": "Object Not Found"}) if known is None else (200, known)
        if kind == "users":
            self.users[parts[0]] = body
            return 204, None
        if kind == "user-limits":
            if parts[0] not in self.users:
                return (400 if method == "PUT" else 500), None
            self.limits.pop(parts[0], None)
            if method == "PUT":
                self.limits[parts[0]] = body["value"]
            return 204, None
        if kind == "topic-permissions" and method == "GET":
            found = self.rights.get(parts[1])
            if found is None:
                return 404, {"error": "Object Not Found"}
            return 200, [found | {"user": parts[1], "vhost": parts[0]}]
        if kind == "topic-permissions" and parts[1] in self.users and parts[0] == "/":
            self.rights[parts[1]] = body
            return 204, None
        return 400, None


def _only(connection: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    """Return the columns of a connection; those of an object in it as a.b."""
    found: dict[str, Any] = {}
    for column in columns:
        name, _, inner = column.partition(".")
        if name in connection:
            value = connection[name]
            found[name] = {inner: value[inner]} if inner else value
    return found


@contextlib.contextmanager
def serving(model: RabbitModel, fleet: Fleet, **more: object) -> Iterator[Fleet]:
    """Serve the model; return the fleet with its table. more: further keys."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            status, answer = 401, None
            if self.headers.get("Authorization") == _PROOF:
                status, answer = model.answer(self.command, self.path.removeprefix("/api/"), body)
            data = b"" if answer is None else answer
            data = data if isinstance(data, bytes) else json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_PUT = do_DELETE = do_GET

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            table = {"management": f"http://127.0.0.1:{server.server_port}", "user": "warden"}
            document = fleet.document | {"rabbitmq": table | more}
            (fleet.root / CONFIG).write_text(tomli_w.dumps(document))
            secretfile.write(fleet.keys / management.PASSWORD, API_PASSWORD.encode())
            yield Fleet(fleet.root)
        finally:
            server.shutdown()


# Fixtures: a test module takes them by `model, fleet, store = rabbitmq_model.FIXTURES`.


@pytest.fixture
def model() -> RabbitModel:
    return RabbitModel("d:lock:D1", "a:home")


@pytest.fixture
def fleet(tmp_path: Path, model: RabbitModel) -> Iterator[Fleet]:
    with serving(model, new_fleet(tmp_path)) as made:
        yield made


@pytest.fixture
def store(fleet: Fleet) -> Iterator[Store]:
    """With the device D1 and the application home, which opens it."""
    with Store(fleet.database) as opened:
        opened.add_device(Device("D1", "lock", "UNIX", "sealed", policy.record()))
        setup.add_app(fleet, opened, App("home", ("lock",), ("open",)))
        yield opened


FIXTURES = model, fleet, store
