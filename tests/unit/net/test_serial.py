"""Frames of a serial line: what is damaged, lost or from another connection ends the link."""

import asyncio
import binascii

from harness import check, equal
from warden.net import serial as module
from warden.net.serial import Framer, frame


class Port:
    """A line whose far end is the test's. takes: bytes of a write."""

    def __init__(self, takes=1000):
        self.takes = takes
        self.out, self.waiting = bytearray(), bytearray()

    def readinto(self, buffer):
        count = min(len(buffer), len(self.waiting))
        buffer[:count] = self.waiting[:count]
        self.waiting = self.waiting[count:]
        return count or None

    def write(self, data):
        count = min(self.takes, len(data))
        self.takes -= count
        self.out += data[:count]
        return count or None


class Poll:
    """The module select, and what its poll() returns."""

    POLLIN = 1

    def register(self, port, _):
        self.port = port

    def poll(self, *asked):
        return self.port.waiting if asked else Poll()


def stream(takes=1000):
    saved, module.select = module.select, Poll()
    try:
        port = Port(takes)
        return module._Stream(port), port
    finally:
        module.select = saved


def read(made, size=100):
    view = memoryview(bytearray(size))
    count = made.readinto(view)
    return count if not count else bytes(view[:count])


def frames(data):
    framer = Framer()
    found = [framer.feed(byte) for byte in data]
    return [bytes(one) for one in found if one is not None], framer.damaged


def test_a_frame_comes_back_whatever_is_in_it():
    for payload in (b"", b"x", bytes(range(192, 256)), b"\xc0\xdb\xdc\xdd" * 16):
        equal(frames(frame(3, 0xC0, payload)), ([b"\x03\xc0" + payload], False))
    equal(frame(3, 0, b"\xc0")[:6], b"\xc0\x03\x00\xdb\xdc" + frame(3, 0, b"\xc0")[5:6])


def test_a_damaged_frame_is_none():
    good = frame(3, 1, b"hello")
    for at in range(1, len(good) - 1):
        for turned in (1, 0x80):
            bad = bytearray(good)
            bad[at] ^= turned
            equal(frames(bad), ([], True), at)
    cut = good[:5] + good[6:]
    equal(frames(cut), ([], True))
    equal(frames(b"\xc0" + b"a" * 500 + b"\xc0"), ([], True))
    equal(frames(b"\xc0\xc0\xc0"), ([], False))
    for more in range(1, 5):
        equal(frames(frame(3, 0, b"a" * 64)[:-1] + b"x" * more + b"\xc0"), ([], True), more)
    long = bytes((3, 0)) + b"a" * 65
    long += binascii.crc32(long).to_bytes(4, "little")
    equal(frames(b"\xc0" + long + b"\xc0"), ([], True))


def test_bytes_go_out_in_frames_and_unfinished_ones_are_asked_for_again():
    made, port = stream()
    data = bytes(range(150))
    equal([made.write(data), made.write(data[64:]), made.write(data[128:])], [64, 64, 22])
    found, _ = frames(port.out)
    equal([(one[0], one[1], len(one) - 2) for one in found], [(3, 0, 64), (3, 1, 64), (3, 2, 22)])
    equal(b"".join([one[2:] for one in found]), data)
    made, port = stream(takes=10)
    equal(made.write(data), None)
    port.takes = 1000
    equal(made.write(data), 64)
    equal(frames(port.out), ([b"\x03\x00" + data[:64]], False))


def test_what_came_is_handed_out_in_order():
    made, port = stream()
    equal(read(made), None)
    port.waiting = frame(3, 0, b"a" * 64) + frame(3, 1, b"b" * 10)
    equal([read(made, 40), read(made, 40), read(made, 40)], [b"a" * 40, b"a" * 24, b"b" * 10])
    equal(read(made), None)
    port.waiting = frame(4, 0, b"")
    equal(read(made), 0)


def test_a_lost_or_damaged_frame_ends_the_link():
    for sent in (frame(3, 1, b"x"), frame(3, 0, b"x")[:-3] + b"\xc0", b"\xc0noise\xc0"):
        made, port = stream()
        port.waiting = bytearray(sent)
        try:
            check(read(made) is None)
        except OSError:
            continue
        check(False, sent)
    made, port = stream()
    for number in range(300):
        port.waiting = frame(3, number & 0xFF, b"x")
        equal(read(made), b"x")
    check(made._received == 300)


def test_one_of_another_connection_is_not_taken_for_data():
    made, port = stream()
    port.waiting = frame(2, 0, b"nonce678") + frame(3, 0, b"x")
    equal(read(made), b"x")
    port.waiting = frame(2, 0, b"nonce678")  # the gateway answered a hello of after that
    equal(read(made), 0)


class Noisy(Port):
    """A line that has something to read for ever. data: what it repeats."""

    def __init__(self, data):
        super().__init__()
        self.data, self.reads = bytes(data), 0
        self.waiting = True

    def readinto(self, buffer):
        self.reads += 1
        if self.reads > 200:
            raise KeyboardInterrupt
        data = self.data * (1 + len(buffer) // len(self.data))
        buffer[:] = data[: len(buffer)]
        return len(buffer)


def test_a_line_that_never_ends_gives_others_their_turn():
    saved, module.select = module.select, Poll()
    try:
        noisy = (b"\xc0a", frame(2, 0, b"12345678"), frame(9, 0, b""), b"\xc0\xc0")
        for data in noisy:
            port = Noisy(data)
            made = module._Stream(port)
            for _ in range(10):
                try:
                    equal(read(made), None)
                except OSError:
                    break
            check(port.reads <= 30, data)
        made = module._Stream(Noisy(b"a"))
        try:
            check(all([read(made) is None for _ in range(3)]))
        except OSError:
            return
        check(False, "bytes without an end ought to end the link")
    finally:
        module.select = saved


def test_what_comes_for_ever_delays_no_deadline_of_an_opening():
    async def main():
        for data in (b"\xc0a", frame(3, 0, b"x" * 64)):
            link = module.SerialLink(None, None, 1000, Noisy(data))
            turns = []

            async def other(port=link._port, turns=turns):
                while port.reads < 200:
                    turns.append(port.reads)
                    await asyncio.sleep_ms(0)

            task = asyncio.create_task(other())
            try:
                await link.connect("", 0, b"x", 1 << 20)
            except KeyboardInterrupt:
                pass
            check(len(turns) > 50, data)
            task.cancel()

    saved, module.select = module.select, Poll()
    try:
        asyncio.run(main())
    finally:
        module.select = saved
