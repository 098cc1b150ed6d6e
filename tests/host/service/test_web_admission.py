"""Addresses that are kept out reach nothing of the console."""

import asyncio
from typing import Any

import pytest
from warden_host.errors import HostError
from warden_host.web.admission import KEPT_S, AddressGate, Admission


def call(gate: AddressGate, kind: str, address: str) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": kind, "client": (address, 1)}
    asyncio.run(gate(scope, None, send))  # type: ignore[arg-type]
    return sent


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_who_is_kept_out_gets_no_page(kind):
    reached: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["client"][0])

    async def admits(address: str) -> bool:
        return address != "192.0.2.7"

    gate = AddressGate(app, admits)
    assert call(gate, kind, "192.0.2.8") == [] and reached == ["192.0.2.8"]
    first = call(gate, kind, "192.0.2.7")[0]
    assert first.get("status") == 403 or first["type"] == "websocket.close"
    assert reached == ["192.0.2.8"]


@pytest.mark.parametrize(
    ("kind", "line", "end"),
    [
        (
            "http",
            {"type": "http.response.body", "body": b"x", "more_body": True},
            {"type": "http.response.body", "body": b""},
        ),
        (
            "websocket",
            {"type": "websocket.send", "text": "x"},
            {"type": "websocket.close"},
        ),
    ],
)
def test_what_is_read_ends_with_a_ban(kind, line, end):
    allowed = [True, True, False]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(4):
            await send(dict(line))

    async def admits(address: str) -> bool:
        return allowed.pop(0)

    assert call(AddressGate(app, admits), kind, "192.0.2.7") == [line, end]


class Authority:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails = False

    async def call(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request["address"])
        if self.fails:
            raise HostError("not-serving")
        return {"admitted": request["address"] != "192.0.2.7"}


def test_answers_are_kept_for_a_moment_and_bounded():
    authority, now = Authority(), [0.0]
    admission = Admission(authority, lambda: now[0])  # type: ignore[arg-type]

    async def ask(address: str) -> bool:
        return await admission.admits(address)

    assert [asyncio.run(ask("192.0.2.7")) for _ in range(3)] == [False] * 3
    assert authority.asked == ["192.0.2.7"]
    now[0] = KEPT_S
    asyncio.run(ask("192.0.2.7"))
    assert len(authority.asked) == 2
    authority.fails = True
    assert asyncio.run(ask("192.0.2.9"))  # the page says that nobody serves
    authority.fails = False
    for number in range(1100):
        asyncio.run(ask(f"{number}"))
    assert len(admission._known) <= 1024
