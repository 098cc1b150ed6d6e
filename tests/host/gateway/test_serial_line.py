"""The gateway's end of a serial line: each limit ends the connection, and none the port."""

import asyncio
import os
import socket
import sys
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[3] / "examples" / "gateway"))
import serial_line  # noqa: E402
from serial_line import (  # noqa: E402
    CLOSE,
    DATA,
    END,
    ESCAPE,
    MOST,
    OPEN,
    OPENED,
    PAYLOAD,
    SerialLine,
    frame,
    unpack,
)

NONCE = b"12345678"
LONG = b"a" * (PAYLOAD + 1)


class World:
    """A line to a gateway; what its connections read, and whether they ended."""

    def __init__(self) -> None:
        ours, self.far = socket.socketpair()
        self.ours = ours
        for one in (ours, self.far):
            one.setblocking(False)
        self.read: list[bytearray] = []
        self.ended: list[bool] = []
        self.writers: list[Any] = []
        self.line = SerialLine(ours.fileno(), self.serve)

    async def serve(self, reader: asyncio.StreamReader, writer: Any) -> None:
        number = len(self.read)
        self.read.append(bytearray())
        self.ended.append(False)
        self.writers.append(writer)
        while data := await reader.read(1000):
            self.read[number] += data
        self.ended[number] = True
        writer.close()

    async def send(self, *parts: bytes) -> None:
        """Put bytes on the line, and let the gateway read all of them."""
        for part in parts:
            while part:
                try:
                    part = part[self.far.send(part) :]
                except BlockingIOError:
                    pass
                await self.turns()
        await self.turns()

    async def turns(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    def answered(self) -> list[tuple[int, int, bytes] | None]:
        try:
            data = self.far.recv(1 << 20)
        except BlockingIOError:
            return []
        return [unpack(one) for one in data.split(bytes((END,))) if one]


def in_world(work: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        world = World()
        world.line.start()
        try:
            await work(world)
        finally:
            world.line.stop()
            await world.turns()
            world.far.close()
            world.ours.close()

    asyncio.run(run())


def raw(body: bytes) -> bytes:
    """A frame with a right CRC around any body."""
    return frame(body[0], body[1], body[2:])


# Frames alone


@pytest.mark.parametrize(
    "payload", [b"", b"x", bytes(range(192, 256)), b"\xc0\xdb\xdc\xdd" * 16, b"\xdb\xdc" * 32]
)
def test_a_frame_comes_back_whatever_is_in_it(payload):
    data = frame(DATA, END, payload)
    assert data.count(END) == 2  # its ends alone
    assert unpack(data[1:-1]) == (DATA, END, payload)


def test_each_turned_bit_and_each_cut_is_no_frame():
    good = frame(DATA, 1, b"hello")[1:-1]
    for at in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[at] ^= 1 << bit
            assert unpack(bytes(bad)) is None, (at, bit)
        assert unpack(good[:at]) is None
        assert unpack(good[:at] + good[at + 1 :]) is None


def test_its_length_is_bounded_on_both_sides():
    assert unpack(frame(DATA, 0, LONG[1:])[1:-1]) is not None
    assert unpack(frame(DATA, 0, LONG)[1:-1]) is None
    short = bytes((DATA,))
    assert unpack(short + zlib.crc32(short).to_bytes(4, "little")) is None


def test_a_lone_escape_byte_stands_for_no_other():
    """Behind it, only the two words of RFC 1055 mean something."""
    good = frame(DATA, 0, b"\xc0")[1:-1]
    for other in (b"\xdb\xde", b"\xdb\xdb\xdc", b"\xdb"):
        assert unpack(good.replace(b"\xdb\xdc", other, 1)) is None


# A connection


def test_data_comes_in_order_and_whole():
    async def work(world: World) -> None:
        await world.send(frame(OPEN, 0, NONCE))
        assert world.answered() == [(OPENED, 0, NONCE)]
        for number in range(300):  # the number begins anew after 255
            data = frame(DATA, number & 0xFF, b"%03d" % number)
            await world.send(data[:3], data[3:])  # a frame in two reads
        assert bytes(world.read[0]) == b"".join(b"%03d" % number for number in range(300))
        await world.send(frame(CLOSE, 0, b""))
        assert world.ended == [True]

    in_world(work)


BAD = {
    "a turned bit": frame(DATA, 1, b"x")[:-2] + bytes([frame(DATA, 1, b"x")[-2] ^ 1, END]),
    "a lost frame": frame(DATA, 2, b"x"),
    "a repeated frame": frame(DATA, 0, b"x"),
    "one that is too long": frame(DATA, 1, LONG),
    "noise without an end, then an end": b"a" * 5000 + bytes((END,)),
    "an escape without its second byte": bytes((END, ESCAPE, END)),
    "a short one": bytes((END, DATA, END)),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_none_ends_the_connection(data):
    async def work(world: World) -> None:
        await world.send(frame(OPEN, 0, NONCE), frame(DATA, 0, b"good"), data)
        assert world.ended == [True]
        await world.send(frame(DATA, 1, b"late"))
        assert bytes(world.read[0]) == b"good"
        assert world.answered()[-1] == (CLOSE, 0, b"")
        # The port goes on.
        await world.send(frame(OPEN, 0, b"another1"), frame(DATA, 0, b"new"))
        assert (world.ended, bytes(world.read[1])) == ([True, False], b"new")

    in_world(work)


def test_an_unfinished_frame_ends_nothing_and_keeps_little():
    async def work(world: World) -> None:
        await world.send(frame(OPEN, 0, NONCE), frame(DATA, 0, b"good"))
        for _ in range(50):
            await world.send(b"\xc0" + b"a" * 2000)
            assert len(world.line._rest) <= MOST + 1
        assert len(world.line._rest) > 0

    in_world(work)


def test_a_frame_before_an_opening_is_dropped():
    async def work(world: World) -> None:
        await world.send(frame(DATA, 0, b"x"), frame(OPEN, 0, b"short"), frame(9, 0, b""))
        assert (world.read, world.answered()) == ([], [])

    in_world(work)


def test_a_new_opening_ends_the_connection_before():
    async def work(world: World) -> None:
        await world.send(frame(OPEN, 0, NONCE), frame(DATA, 0, b"old"))
        world.writers[0].write(b"for the old one" * 100)
        await world.send(frame(OPEN, 0, b"another1"), frame(DATA, 0, b"new"))
        assert (world.ended, [bytes(one) for one in world.read]) == (
            [True, False],
            [b"old", b"new"],
        )
        world.writers[0].write(b"too late")
        await world.turns()
        found = world.answered()
        place = found.index((OPENED, 0, b"another1"))
        assert all(one[0] != DATA for one in found[place:] if one is not None)

    in_world(work)


def test_what_waits_for_the_old_connection_is_dropped():
    async def work(world: World) -> None:
        await world.send(frame(OPEN, 0, NONCE))
        world.writers[0].write(bytes(1 << 20))
        await world.turns()
        assert world.line.unsent > 65536
        await world.send(frame(OPEN, 0, b"another1"))
        assert world.line.unsent <= len(frame(OPENED, 0, b"another1"))

    in_world(work)


def test_what_goes_out_is_cut_into_numbered_frames():
    async def work(world: World) -> None:
        await world.send(frame(OPEN, 0, NONCE))
        world.answered()
        data = os.urandom(1000)
        world.writers[0].write(data[:500])
        world.writers[0].write(data[500:])
        await world.turns()
        found = [one for one in world.answered() if one is not None]
        assert [one[1] for one in found] == list(range(16))
        assert all(len(one[2]) <= PAYLOAD for one in found)
        assert b"".join(one[2] for one in found) == data

    in_world(work)


def test_a_line_that_takes_nothing_is_behind_and_tells_it():
    async def work(world: World) -> None:
        await world.send(frame(OPEN, 0, NONCE))
        world.writers[0].write(bytes(1 << 20))
        await world.turns()
        assert world.writers[0].get_write_buffer_size() > 65536

    in_world(work)


def test_a_port_that_is_gone_ends_the_connection():
    async def work(world: World) -> None:
        await world.send(frame(OPEN, 0, NONCE))
        world.far.close()
        await world.turns()
        assert world.ended == [True]

    in_world(work)


def test_both_ends_have_the_same_constants(repo):
    """The device's are those of lib/warden/net/serial.py."""
    text = (repo / "lib/warden/net/serial.py").read_text()
    for name, value in (("_PAYLOAD", PAYLOAD), ("_MOST", PAYLOAD + 6), ("_END", END)):
        shown = f"0x{value:X}" if name == "_END" else str(value)
        assert f"{name} = const({shown})" in text
    assert serial_line.NONCE == len(NONCE)
