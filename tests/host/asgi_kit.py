"""Requests to an application of the console without a socket, and an authority that is none."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from warden_host.errors import HostError

PORT = 8080
HOST = f"127.0.0.1:{PORT}"
ORIGIN = f"http://{HOST}"


def scope_of(method: str, path: str, *headers: tuple[str, str], kind: str = "http") -> Any:
    """Return what uvicorn tells of a request. headers: as they came, beside the host's name."""
    if not any(name == "host" for name, _ in headers):
        headers = (("host", HOST), *headers)
    path, _, query = path.partition("?")
    of_kind = {"method": method} if kind == "http" else {}  # a WebSocket's has none
    return of_kind | {
        "type": kind,
        "scheme": "http" if kind == "http" else "ws",
        "path": path,
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "client": ("192.0.2.1", 1),
        "server": ("127.0.0.1", PORT),
    }


def sent_by(app: Any, scope: Any, body: bytes = b"") -> list[Any]:
    """Return what an application sends for a request with this body."""
    sent: list[Any] = []
    coming = [{"type": "http.request", "body": body}]

    async def receive() -> Any:
        return coming.pop() if coming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


class Answer:
    """The answer to a request."""

    def __init__(self, app: Any, scope: Any, body: bytes = b"") -> None:
        start, *rest = sent_by(app, scope, body)
        self.status = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        self.text = b"".join(one.get("body", b"") for one in rest).decode()

    @property
    def problem(self) -> str:
        """The code of the problem that it tells."""
        return str(json.loads(self.text)["code"])


class AuthorityModel:
    """Operation → the lines of its answer, or the error; other operations answer {"ok"}."""

    def __init__(self, **answers: "list[Any] | HostError") -> None:
        self.answers = answers
        self.asked: list[Any] = []

    async def call(self, request: Any) -> Any:
        async for line in self.stream(request):
            return line
        raise HostError("not-serving", "no line came")

    async def stream(self, request: Any) -> AsyncGenerator[Any, None]:
        self.asked.append(request)
        found = self.answers.get(request["op"].replace("-", "_"), [{"ok": True}])
        if isinstance(found, HostError):
            raise found
        for line in found:
            if isinstance(line, HostError):
                raise line
            yield line

    lines = stream

    async def raw(self, request: Any) -> AsyncGenerator[bytes, None]:
        async for line in self.stream(request):
            yield json.dumps(line).encode() + b"\n"
