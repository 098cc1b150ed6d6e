"""Connections of the console that are late, and too many: uvicorn's real server."""

import asyncio
import socket
from typing import Any

import pytest
import uvicorn
from process_kit import PATIENCE_S
from warden_host.web import connection

ANSWER = b"x" * 60000


async def app(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", scope["path"] == "/form"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    headers = [(b"content-length", str(len(body or ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body or ANSWER})


@pytest.fixture
def served():
    """Run a client against a server."""

    async def both(client: Any) -> Any:
        config = uvicorn.Config(
            app, http=connection.LimitedConnection, lifespan="off", log_level="error"
        )
        config.load()
        server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        running = asyncio.create_task(server.serve([listener]))
        try:
            return await asyncio.wait_for(client(listener.getsockname()[1]), PATIENCE_S)
        finally:
            server.should_exit = True
            await running

    return lambda client: asyncio.run(both(client))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHo",
        b"POST /form HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 2000,  # answers that nobody reads
    ],
    ids=["nothing", "half a head", "half a body", "no reader"],
)
def test_a_late_client_loses_its_connection(served, sent, monkeypatch):
    monkeypatch.setattr(connection, "WAIT_S", 0.3)
    monkeypatch.setattr(connection, "_LOOK_S", 0.05)

    async def client(port: int) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.transport.pause_reading()
        writer.write(sent)
        await asyncio.sleep(0)
        if len(sent) > 1000:
            while not writer.transport.is_closing():  # the write fails when the server hangs up
                writer.write(b"G")
                await asyncio.sleep(0.05)
            return True
        writer.transport.resume_reading()
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True

    assert served(client)


def test_a_client_in_time_keeps_its_connection(served):
    async def client(port: int) -> list[int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sizes = []
        for _ in range(10):
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            sizes.append(len(await reader.readexactly(len(ANSWER))))
            assert head.startswith(b"HTTP/1.1 200")
        writer.close()
        return sizes

    assert served(client) == [len(ANSWER)] * 10


def test_one_address_takes_a_part_of_the_connections(served, monkeypatch):
    monkeypatch.setattr(connection, "MOST_OF_AN_ADDRESS", 3)

    async def client(port: int) -> bytes:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        try:
            refused = await reader.read()
        except ConnectionError:
            refused = b""
        for _, one in (*opened, (reader, writer)):
            one.close()
        return refused

    assert served(client) == b""
