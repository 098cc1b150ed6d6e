"""Connections of the console that are late, and too many: uvicorn's real server."""

import asyncio
import contextlib
import resource
import socket
import ssl
import sys
from typing import Any

import pytest
import uvicorn
from host_kit import new_fleet
from process_kit import PATIENCE_S
from warden_host.web import acceptor, connection, places
from warden_host.web.acceptor import Server

ANSWER = b"x" * 60000


async def serve_websocket(path: str, receive: Any, send: Any) -> None:
    """Accept, and send for ever, echo, or wait; "/never" is not accepted."""
    await receive()
    while path == "/never":
        if (await receive())["type"] == "websocket.disconnect":
            return
    await send({"type": "websocket.accept"})
    while path == "/talk":
        await send({"type": "websocket.send", "bytes": ANSWER})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def stream(receive: Any, send: Any) -> None:
    """Begin an answer without an end, as the events of a page are."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await serve_websocket(scope["path"], receive, send)
        return
    if scope["path"] == "/stream":
        await stream(receive, send)
        return
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

    async def both(client: Any, keys: Any, level: str) -> Any:
        certificate, key = keys or (None, None)
        config = uvicorn.Config(
            app,
            http=connection.LimitedConnection,
            ws=connection.LimitedWebSocket,
            ws_max_size=16384,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=5,
            lifespan="off",
            log_level=level,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
        config.load()
        server = Server(config)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        running = asyncio.create_task(server.serve([listener]))
        try:
            return await asyncio.wait_for(client(listener.getsockname()[1]), PATIENCE_S)
        finally:
            server.should_exit = True
            await running

    return lambda client, keys=None, level="critical": asyncio.run(both(client, keys, level))


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A server's certificate and key."""
    folder = new_fleet(tmp_path_factory.mktemp("keys")).keys
    return folder / "server.crt", folder / "server.key"


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


def request_from(port: int, address: str, context: ssl.SSLContext | None) -> Any:
    return asyncio.open_connection(
        "127.0.0.1", port, local_addr=(address, 0), ssl=context, server_hostname=context and ""
    )


async def get(port: int, address: str, context: ssl.SSLContext | None = None) -> bytes:
    """Return the head of the answer, or b"" where the connection ended."""
    try:
        reader, writer = await request_from(port, address, context)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        head = await reader.readline()
    except (ConnectionError, ssl.SSLError):
        return b""
    writer.close()
    return head


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("this user may not open 4096 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("tls", [False, True])
def test_a_thousand_half_open_connections_leave_the_console_usable(served, many_files, keys, tls):
    """From one address and from many; with half a request, or with half a handshake."""
    context = ssl.create_default_context() if tls else None
    if context is not None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def client(port: int) -> set[bytes]:
        half = b"\x16\x03\x01" if tls else b"GET / HT"
        opened = []
        for number in range(1000):
            address = f"127.0.0.{2 + number % 2 * (number % 8)}"
            _, writer = await request_from(port, address, None)
            writer.write(half)
            opened.append(writer)
        heads = {await get(port, f"127.0.0.{last}", context) for last in (1, 2, 3)}
        for writer in opened:
            writer.transport.abort()
        return heads

    assert served(client, keys if tls else None) == {b"HTTP/1.1 200 OK\r\n"}


def test_a_handshake_that_is_late_ends(served, keys, monkeypatch):
    monkeypatch.setattr(connection, "WAIT_S", 0.3)
    monkeypatch.setattr("asyncio.sslproto.constants.SSL_HANDSHAKE_TIMEOUT", 3600.0)

    async def client(port: int) -> bytes:
        reader, writer = await request_from(port, "127.0.0.1", None)
        writer.write(b"\x16\x03\x01")
        try:
            return await reader.read()
        finally:
            writer.close()

    assert served(client, keys) == b""


class Fake:
    def __init__(self, waiting: bool) -> None:
        self.waiting = waiting
        self.over = False

    def is_waiting(self) -> bool:
        return self.waiting

    def is_over(self) -> bool:
        return self.over

    def end(self) -> None:
        self.over = True


def test_who_gives_way(monkeypatch):
    monkeypatch.setattr(places, "MOST_OF_AN_ADDRESS", 3)
    monkeypatch.setattr(places, "MOST", 5)
    made = places.Places()
    idle = [Fake(waiting=True) for _ in range(3)]
    held = [made.enter("a", one) for one in idle]
    made.wait(held[0])  # its wait began anew: the second one waits the longest
    assert made.enter("a", Fake(waiting=False))
    assert [one.over for one in idle] == [False, True, False]
    assert made.enter("b", Fake(waiting=True)) and made.enter("c", Fake(waiting=True))
    assert made.enter("d", Fake(waiting=False))  # of `a`, which has the most that wait
    assert [one.over for one in idle] == [False, True, True]


def test_connections_at_work_keep_their_places(monkeypatch):
    monkeypatch.setattr(places, "MOST_OF_AN_ADDRESS", 2)
    monkeypatch.setattr(places, "MOST", 3)
    made = places.Places()
    first, second, third = (Fake(waiting=False) for _ in range(3))
    held = made.enter("a", first)
    assert held and made.enter("a", second)
    assert made.enter("a", Fake(waiting=False)) is None
    assert made.enter("b", third)
    assert made.enter("c", Fake(waiting=False)) is None
    assert not (first.over or second.over or third.over)
    third.over = True  # a connection that ended by itself holds no place
    assert made.enter("c", Fake(waiting=False))
    made.leave(held)
    assert made.enter("d", Fake(waiting=False))


async def upgraded(
    port: int, path: str, context: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    head = f"GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    writer.write(head.encode())
    if path != "/never":
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    return reader, writer


def frame(first: int, data: bytes = b"") -> bytes:
    """Return a client's frame, under a mask of zeros."""
    return bytes((first, 0x80 | len(data))) + bytes(4) + data


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/never", b""),  # a hand-shake that ends nowhere
        ("/talk", b""),  # no reader
        ("/echo", frame(0x01) + frame(0x00) * 20000),  # one message of empty pieces
        ("/talk", frame(0x89, b"p" * 125) * 20000),  # pings, whose answers nobody reads
    ],
    ids=["no hand-shake", "no reader", "pieces", "pings"],
)
def test_a_late_or_flooding_websocket_ends(served, path, sent, monkeypatch):
    monkeypatch.setattr(connection, "WAIT_S", 60.0 if sent else 0.3)
    monkeypatch.setattr(connection, "_LOOK_S", 0.05)

    async def client(port: int) -> bool:
        while True:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                reader, writer = await upgraded(port, path)
                break  # else the machine was too slow for the hand-shake
        writer.transport.pause_reading()
        writer.write(sent)
        try:
            while not writer.transport.is_closing():
                writer.write(frame(0x8A))  # a pong that nobody asked for
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        return True

    assert served(client)


def test_a_client_writes_nothing_into_the_log(served, caplog, capfd, monkeypatch):
    """Text that is not UTF-8, and answers to one that is gone."""
    gone = asyncio.Event()

    async def answer_too_late(path: str, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        transport = send.__self__.transport
        transport.get_extra_info("socket").shutdown(socket.SHUT_WR)  # as if the peer had reset it
        try:
            for _ in range(20):
                await send({"type": "websocket.send", "text": "x"})
        finally:
            gone.set()

    monkeypatch.setattr(sys.modules[__name__], "serve_websocket", answer_too_late)

    async def client(port: int) -> bytes:
        reader, writer = await upgraded(port, "/echo")
        writer.write(frame(0x01, b"\xc3") + frame(0x80, b"\xa9"))  # one character in two pieces
        await gone.wait()
        writer.close()
        reader, writer = await upgraded(port, "/echo")
        writer.write(frame(0x81, b"\xff\xfe"))
        return await reader.read()

    assert served(client, level="error") == b"\x88\x02\x03\xef"  # 1007
    assert caplog.records == []
    assert capfd.readouterr().err == ""  # uvicorn's own


def test_an_open_stream_ends_with_the_server(served, monkeypatch, caplog, capfd):
    """Else each Ctrl-C beside an open page shows an error of uvicorn's."""
    monkeypatch.setattr(acceptor, "_END_S", 0.1)
    left = []

    async def client(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        left.append(writer)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
        return await reader.readuntil(b"data: 1")

    assert served(client, level="error").endswith(b"data: 1")
    assert caplog.records == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("tls", [False, True])
def test_a_websocket_in_time_goes_on(served, keys, tls, monkeypatch):
    context = ssl.create_default_context() if tls else None
    if context is not None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    monkeypatch.setattr(connection, "_LOOK_S", 0.02)

    async def client(port: int) -> bytes:
        reader, writer = await upgraded(port, "/echo", context)
        monkeypatch.setattr(connection, "WAIT_S", 0.2)  # now: its hand-shake may take longer
        found = b""
        for _ in range(3):
            await asyncio.sleep(0.3)  # quiet for longer than a request may be
            for _ in range(300):
                writer.write(frame(0x81, b"x" * 100))
                found = await reader.readexactly(102)
        writer.close()
        return found

    assert served(client, keys if tls else None) == b"\x81\x64" + b"x" * 100


@pytest.mark.parametrize("answered", [True, False], ids=["at work", "silent"])
def test_websockets_hold_places(served, answered, monkeypatch):
    """One that was answered keeps its place; a silent one gives way."""
    monkeypatch.setattr(places, "MOST_OF_AN_ADDRESS", 2)

    async def client(port: int) -> bool:
        opened = [await upgraded(port, "/echo") for _ in range(2)]
        for reader, writer in opened if answered else ():
            writer.write(frame(0x81, b"x"))
            await reader.readexactly(3)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        try:
            found = await reader.read()
        except ConnectionError:
            found = b""
        for _, one in (*opened, (reader, writer)):
            one.close()
        return found.startswith(b"HTTP/1.1 200")

    assert served(client) is not answered
