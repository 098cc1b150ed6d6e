"""The forwarder between a simulated board and its servers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from port_kit import free_ports
from warden_host.sim import network
from warden_host.sim.network import DOWN, SILENT, UP, Network

HOST = "127.0.0.1"


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[tuple[Network, int, asyncio.Server]]:
    """A network, and the port of a server that sends back what it gets."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1000):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(answer, HOST, *free_ports(1))
    made = Network()
    try:
        yield made, server.sockets[0].getsockname()[1], server
    finally:
        await made.close()
        server.close()


async def connect(made: Network, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    near = await made.port_of(HOST, port)
    assert near is not None
    return await asyncio.open_connection(HOST, near)


def test_up_with_a_delay() -> None:
    async def run() -> None:
        async with echo() as (made, port, _):
            made.switch(UP, 1)
            reader, writer = await connect(made, port)
            for number in range(50):
                writer.write(b"%03d" % number)
                await writer.drain()
            got = await reader.readexactly(150)
            assert got == b"".join(b"%03d" % number for number in range(50))
            # One direction that ends leaves the other one open.
            writer.write(b"last")
            writer.write_eof()
            assert await reader.read() == b"last"
            writer.close()

    asyncio.run(run())


def test_down() -> None:
    async def run() -> None:
        async with echo() as (made, port, _):
            reader, writer = await connect(made, port)
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            near = await made.port_of(HOST, port)
            made.switch(DOWN, 0)
            try:
                assert await reader.read(1) == b""
            except ConnectionResetError:
                pass
            assert await made.port_of(HOST, port) is None
            # Who knows the port from before gets nothing either.
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(HOST, near)
                assert await reader.read(1) == b""
            made.switch(UP, 0)
            reader, writer = await connect(made, port)
            writer.write(b"y")
            assert await reader.read(1) == b"y"
            writer.close()

    asyncio.run(run())


def test_silent() -> None:
    async def run() -> None:
        async with echo() as (made, port, _):
            reader, writer = await connect(made, port)
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            made.switch(SILENT, 0)
            writer.write(b"y")
            waits = asyncio.create_task(reader.read(1))
            late_reader, late = await connect(made, port)  # to the forwarder, and no further
            late.write(b"z")
            done, _ = await asyncio.wait([waits], timeout=0.05)
            assert not done
            made.switch(UP, 0)
            assert await waits == b"y"
            assert await late_reader.read(1) == b"z"
            writer.close()
            late.close()

    asyncio.run(run())


def test_what_gave_up_in_silence_reaches_no_server_later() -> None:
    """An old CONNECT would end the board's new session, and old ones would take all places."""

    async def run() -> None:
        got: list[bytes] = []

        async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.append(await reader.read(9))
            writer.close()

        async with await asyncio.start_server(note, HOST, 0) as server:
            made = Network()
            made.switch(SILENT, 0)
            port = server.sockets[0].getsockname()[1]
            for _ in range(network.MAX_CONNECTIONS + 1):
                reader, writer = await connect(made, port)
                writer.write(b"old")
                writer.write_eof()
                assert await reader.read() == b""  # the forwarder has let go of it
                writer.close()
            reader, writer = await connect(made, port)
            writer.write(b"new")
            await writer.drain()
            made.switch(UP, 0)
            assert await reader.read() == b""
            writer.close()
            await made.close()
        assert got == [b"new"]

    asyncio.run(run())


def test_a_port_that_was_taken_meanwhile() -> None:
    async def run() -> None:
        async with echo() as (made, port, server):
            server.close()
            near = await made.port_of(HOST, port)  # refused from now on: nothing listens there
            assert near is not None
            with socket.create_server((HOST, near)):
                again = await asyncio.start_server(lambda _, writer: writer.close(), HOST, port)
                async with again:
                    assert await made.port_of(HOST, port) not in (None, near)

    asyncio.run(run())


def test_a_name_that_is_none() -> None:
    async def run() -> None:
        async with echo() as (made, port, _):
            near = await made.port_of("x" * 64, port)  # longer than a label of DNS
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(HOST, near)

    asyncio.run(run())


def test_a_server_that_is_not_there_and_comes() -> None:
    async def run() -> None:
        async with echo() as (made, port, server):
            server.close()
            near = await made.port_of(HOST, port)
            try:
                await asyncio.open_connection(HOST, near)
                raise AssertionError("something listens")
            except ConnectionRefusedError:
                pass
            again = await asyncio.start_server(lambda _, writer: writer.write(b"!"), HOST, port)
            async with again:
                reader, writer = await connect(made, port)
                assert await made.port_of(HOST, port) == near
                assert await reader.read(1) == b"!"
                writer.close()

    asyncio.run(run())


def test_bounds() -> None:
    async def run() -> None:
        async with echo() as (made, port, _):
            for bad in (0, -1, 65536):
                assert await made.port_of(HOST, bad) is None
            made.switch(SILENT, 0)  # no server is looked for
            for number in range(network.MAX_SERVERS):
                assert await made.port_of(f"host-{number}", port) is not None
            assert await made.port_of("one-more", port) is None
            held = []
            near = await made.port_of("host-1", port)
            for _ in range(network.MAX_CONNECTIONS):
                held.append(await asyncio.open_connection(HOST, near))
            reader, writer = await asyncio.open_connection(HOST, near)
            try:
                assert await reader.read(1) == b""
            except ConnectionResetError:
                pass
            for _, each in [*held, (reader, writer)]:
                each.transport.abort()

    asyncio.run(run())
