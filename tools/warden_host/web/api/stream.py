"""The WebSocket of the API: events come by it as they happen, and commands may be sent in it.

The token is the first message. In the address it would be in logs and in the browser's history; as
a subprotocol it would be in headers that proxies log, and the server would have to send it back.
"""

import asyncio
import contextlib
import json
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from warden_host import jsontext
from warden_host.errors import HostError
from warden_host.web.admission import address_of
from warden_host.web.api.answers import command_answer, command_fields
from warden_host.web.api.problems import problem
from warden_host.web.authority import Authority, Line
from warden_host.web.server import MAX_MESSAGE

TOKEN_S = 5.0  # for the first message
MOST_COMMANDS = 4  # of one WebSocket, at once
_DEPTH, _MARKS = 12, 4096
_MAX_ID = 64
# Why a WebSocket ends: RFC 6455 §7.4.2 leaves 4000 to 4999 to applications.
MALFORMED, AWAY, REFUSED, LATE, ENDED = 1008, 1012, 4403, 4408, 4401


class Stream:
    """Serve WebSockets."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def serve(self, socket: WebSocket) -> None:
        """Take the token, then pass events and commands on until one side ends."""
        await socket.accept()
        try:
            async with asyncio.timeout(TOKEN_S):
                first = _message(await socket.receive())
            token = first.get("token")
            if first.get("kind") != "token" or not isinstance(token, str):
                raise HostError("token-missing", "the first message is the token")
        except TimeoutError:
            await socket.close(LATE, "no token came")
            return
        except HostError as error:
            await _end(socket, error, MALFORMED)
            return
        except WebSocketDisconnect:
            return
        asked = {
            "bearer": token,
            "address": address_of(socket.scope),
            "origin": socket.headers.get("origin", ""),
        }
        await self._pass_on(socket, asked)

    async def _pass_on(self, socket: WebSocket, asked: Line) -> None:
        """Run both directions; the first one that ends, ends the other."""
        tasks = [
            asyncio.create_task(self._send_events(socket, asked)),
            asyncio.create_task(self._take_commands(socket, asked)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_events(self, socket: WebSocket, asked: Line) -> None:
        """Send what happens. Nothing is queued here: who doesn't read, holds the line up.

        The authority keeps a thousand lines for each stream, and counts what is missed.
        """
        lines = self._authority.stream({"op": "api-watch"} | asked)
        try:
            async with contextlib.aclosing(lines):
                async for line in lines:
                    await _send(socket, _shown(line))
        except HostError as error:
            await _end(socket, error, AWAY if error.code == "not-serving" else REFUSED)
            return
        await socket.close(ENDED, "the token has ended, or `warden serve` has")

    async def _take_commands(self, socket: WebSocket, asked: Line) -> None:
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                given = _message(await socket.receive())
                number = given.pop("id", None)
                if type(number) not in (int, str) or len(str(number)) > _MAX_ID:
                    raise HostError("bad-argument", "a command has an id, a number or a text")
                if given.pop("kind", "") != "command":
                    raise HostError("bad-argument", "there is no such kind of message")
                if len(running) >= MOST_COMMANDS:
                    error = HostError("rate-limited", f"{MOST_COMMANDS} commands run already")
                    await _send(socket, _refusal(number, error))
                    continue
                task = asyncio.create_task(self._command(socket, asked, number, given))
                running.add(task)
                task.add_done_callback(running.discard)
        except WebSocketDisconnect:
            return
        except HostError as error:
            await _end(socket, error, MALFORMED)
        finally:
            for task in running:
                task.cancel()

    async def _command(self, socket: WebSocket, asked: Line, number: Any, given: Line) -> None:
        try:
            device = given.pop("device", None)
            fields = command_fields(given) | {"device": device}
            found = await self._authority.call({"op": "api-command"} | asked | fields)
            shown = {"kind": "answer", "id": number} | command_answer(found)
        except HostError as error:
            shown = _refusal(number, error)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it ended meanwhile
            await _send(socket, shown)


def _refusal(number: Any, error: HostError) -> Line:
    return {"kind": "answer", "id": number, "ok": False, "problem": problem(error)}


def _message(received: Any) -> Line:
    """Return a message's object. Raises bad-json, WebSocketDisconnect."""
    if received["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(received.get("code", 1000))
    text = received.get("text")
    if not isinstance(text, str):
        raise HostError("bad-json", "a message is text")
    return jsontext.parse_object(text, MAX_MESSAGE, "bad-json", _DEPTH, _MARKS)


def _shown(line: Line) -> Line:
    """Return a line of the authority's; what it says of a slow reader is a notice."""
    if line.get("kind") == "notice":
        return {"kind": "missed", "text": line.get("text", ""), "time": line.get("time")}
    return line


async def _send(socket: WebSocket, line: Line) -> None:
    await socket.send_text(json.dumps(line))


async def _end(socket: WebSocket, error: HostError, status: int) -> None:
    """Say why, then end."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await _send(socket, {"kind": "refused", "problem": problem(error)})
        await socket.close(status, error.code)
