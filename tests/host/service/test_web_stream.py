"""What the API refuses of a request and of a WebSocket's messages, without a socket."""

import asyncio
import json
from typing import Any

import pytest
from asgi_kit import Answer, AuthorityModel, scope_of
from process_kit import PATIENCE_S
from warden_host.errors import HostError
from warden_host.web.api import stream
from warden_host.web.api.http import api

COMMAND = {"kind": "command", "device": "D1", "command": "set_relay"}
ANSWERED = {"device": "D1", "command": "set_relay", "id": 7, "reply": {"result": 1}}
FIRST = {"kind": "token", "token": "x"}
LEFT = {"type": "websocket.disconnect", "code": 1001}


class FakeSocket:
    """A WebSocket of Starlette's: what comes is given, what goes is kept.

    messages: objects, texts and bytes of messages, LEFT for the end; then nothing comes.
    """

    scope, headers = {"client": None}, {}

    def __init__(self, *messages: Any) -> None:
        self.messages = list(messages)
        self.sent: list[Any] = []
        self.statuses: list[int] = []
        self.busy = asyncio.Event()

    async def accept(self) -> None: ...

    async def receive(self) -> Any:
        if not self.messages:
            await asyncio.Event().wait()
        one = self.messages.pop(0)
        if one is LEFT:
            return LEFT
        if isinstance(one, dict):
            one = json.dumps(one)
        return {"type": "websocket.receive", "text" if isinstance(one, str) else "bytes": one}

    async def send_text(self, text: str) -> None:
        self.sent.append(json.loads(text))
        self.busy.set()

    async def close(self, status: int, reason: str = "") -> None:
        self.statuses.append(status)

    @property
    def status(self) -> int:
        """The status with which it was closed; 0 where it was not."""
        assert len(self.statuses) < 2
        return next(iter(self.statuses), 0)


class SlowAuthority(AuthorityModel):
    """One that answers no command, and whose stream is silent."""

    async def stream(self, request: Any) -> Any:
        self.asked.append(request)
        await asyncio.Event().wait()
        yield {}


def served(authority: AuthorityModel, *messages: Any) -> FakeSocket:
    """Return a socket after its end."""
    socket = FakeSocket(*messages)
    serving = stream.Stream(authority).serve(socket)
    asyncio.run(asyncio.wait_for(serving, PATIENCE_S))
    return socket


def test_a_token_that_does_not_come(monkeypatch):
    monkeypatch.setattr(stream, "TOKEN_S", 0.05)
    authority = SlowAuthority()
    socket = served(authority)
    assert (socket.status, socket.sent, authority.asked) == (4408, [], [])


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ({"kind": "hello", "token": "x"}, "token-missing"),
        ({"token": "x"}, "token-missing"),
        ({"kind": "token"}, "token-missing"),
        ({"kind": "token", "token": 7}, "token-missing"),
        ('["x"]', "bad-json"),
        (b'{"kind": "token", "token": "x"}', "bad-json"),
        ('{"kind": "token", "token": "x", "a": ' + "[" * 12 + "]" * 12 + "}", "bad-json"),
        ('{"kind": "token", "token": "x", "a": [1' + ",1" * 4096 + "]}", "bad-json"),
    ],
)
def test_a_first_message_that_is_no_token(first, code):
    authority = SlowAuthority()
    socket = served(authority, first)
    assert (socket.status, [one["problem"]["code"] for one in socket.sent]) == (1008, [code])
    assert authority.asked == []


def test_a_client_that_leaves_before_its_token_or_after_it():
    for messages in ([LEFT], [FIRST, LEFT]):
        authority = SlowAuthority()
        socket = served(authority, *messages)
        assert (socket.status, socket.sent) == (0, [])
        assert len(authority.asked) == len(messages) - 1


@pytest.mark.parametrize(
    ("answer", "status", "sent"),
    [
        (HostError("token-revoked", "no more"), 4403, ["token-revoked"]),
        (HostError("not-serving", "nobody serves"), 1012, ["not-serving"]),
        (
            [{"kind": "ready"}, HostError("not-serving", "it ended")],
            1012,
            ["ready", "not-serving"],
        ),
        ([{"kind": "ready"}], 4401, ["ready"]),
    ],
)
def test_a_stream_ends_with_its_reason(answer, status, sent):
    socket = served(AuthorityModel(api_watch=answer), FIRST)
    told = [one["problem"]["code"] if "problem" in one else one["kind"] for one in socket.sent]
    assert (socket.status, told) == (status, sent)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (COMMAND, "bad-argument"),
        (COMMAND | {"id": None}, "bad-argument"),
        (COMMAND | {"id": True}, "bad-argument"),
        (COMMAND | {"id": [1]}, "bad-argument"),
        (COMMAND | {"id": "x" * 65}, "bad-argument"),
        (COMMAND | {"id": 10**64}, "bad-argument"),
        ({"id": 1}, "bad-argument"),
        (FIRST | {"id": 1}, "bad-argument"),
        ("{", "bad-json"),
        (b"{}", "bad-json"),
    ],
)
def test_a_message_that_is_no_command_ends_the_stream(message, code):
    authority = SlowAuthority()
    socket = served(authority, FIRST, message)
    assert (socket.status, socket.sent[-1]["problem"]["code"]) == (1008, code)
    assert [one["op"] for one in authority.asked] == ["api-watch"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [({}, None), ({"args": {}, "ttl": 5, "timeout": 1}, None), ({"op": "rotate"}, "bad-argument")],
)
def test_fields_of_a_command_in_a_stream(fields, code):
    class Authority(SlowAuthority):
        async def call(self, request: Any) -> Any:
            self.asked.append(request)
            return ANSWERED

    async def run() -> Any:
        socket, authority = FakeSocket(FIRST, COMMAND | {"id": "a"} | fields), Authority()
        task = asyncio.create_task(stream.Stream(authority).serve(socket))
        await socket.busy.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return socket.sent, [one["op"] for one in authority.asked]

    (answer,), asked = asyncio.run(run())
    assert (answer["id"], answer["ok"]) == ("a", code is None)
    assert answer.get("problem", {}).get("code") == code
    assert asked == ["api-watch", *(["api-command"] if code is None else [])]


def test_commands_of_one_stream_at_once():
    async def run() -> Any:
        numbers = range(stream.MOST_COMMANDS + 1)
        socket = FakeSocket(FIRST, *(COMMAND | {"id": n} for n in numbers))
        task = asyncio.create_task(stream.Stream(SlowAuthority()).serve(socket))
        await socket.busy.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return socket.sent

    (answer,) = asyncio.run(run())
    assert (answer["id"], answer["problem"]["code"]) == (stream.MOST_COMMANDS, "rate-limited")


TYPE = ("content-type", "application/json")
BEARER = ("authorization", "Bearer x")


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ([], "token-missing"),
        ([("authorization", "")], "token-missing"),
        ([("authorization", "Basic x")], "token-missing"),
        ([("authorization", "Bearer")], "token-missing"),
        ([("authorization", "Bearer ")], "token-missing"),
        ([("authorization", "x")], "token-missing"),
        ([("authorization", "bearer x")], None),
    ],
)
def test_a_request_without_a_token_is_not_passed_on(authorization, code):
    authority = AuthorityModel()
    found = Answer(api(authority), scope_of("GET", "/token", *authorization))
    if code is None:
        assert (found.status, authority.asked[0]["bearer"]) == (200, "x")
    else:
        assert (found.status, found.problem, authority.asked) == (401, code, [])
        assert found.headers["www-authenticate"].endswith('error="invalid_request"')


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *(("/devices?limit=x", 400), ("/devices?limit=-1", 400), ("/devices?limit=1000000", 400)),
        *(("/devices/D1/events?before=x", 400), ("/devices/D1/events?before=9" + "0" * 16, 400)),
        *(("/events", 426), ("/nothing", 404)),
    ],
)
def test_an_address_of_another_form_is_not_passed_on(path, status):
    authority = AuthorityModel()
    found = Answer(api(authority), scope_of("GET", path, BEARER))
    assert (found.status, authority.asked) == (status, [])
    assert status != 426 or found.headers["upgrade"] == "websocket"


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ({"command": "x"}, TYPE, None),
        ({"command": "x"}, ("content-type", "Application/JSON; charset=utf-8"), None),
        ({"command": "x"}, ("content-type", "text/plain"), "type-refused"),
        ({"command": "x"}, ("content-type", "application/jsonp"), "type-refused"),
        ({}, TYPE, "bad-argument"),
        ({"args": {}}, TYPE, "bad-argument"),
        ({"command": "x", "bearer": "y"}, TYPE, "bad-argument"),
        ({"command": "x", "args": {"a": "y" * 16384}}, TYPE, "bad-json"),
        ({"command": "x", "args": {"a": [1] * 4096}}, TYPE, "bad-json"),
        ([], TYPE, "bad-json"),
    ],
)
def test_a_body_of_another_form_is_not_passed_on(body, kind, code):
    authority = AuthorityModel(api_command=[ANSWERED])
    scope = scope_of("POST", "/devices/D1/commands", BEARER, kind)
    found = Answer(api(authority), scope, json.dumps(body).encode())
    if code is None:
        assert found.status == 200
        assert (authority.asked[0]["device"], authority.asked[0]["command"]) == ("D1", "x")
    else:
        assert (found.problem, authority.asked) == (code, [])
