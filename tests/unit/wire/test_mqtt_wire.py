"""The framer: every length, type, flag and early end of a hostile broker's packets."""

from harness import check, equal, raises
from warden.wire import mqtt

PURE = BUILT = True
LIMIT = 2048


def length_field(n):
    """MQTT's variable length, in its shortest form (3.1.1, section 2.2.3)."""
    out = bytearray()
    while True:
        out.append(n & 0x7F | (0x80 if n > 0x7F else 0))
        n >>= 7
        if not n:
            return bytes(out)


def packet(first, body):
    return bytes((first,)) + length_field(len(body)) + body


def publish(topic=b"t", payload=b"", first=0x30, pid=1):
    body = bytes((len(topic) >> 8, len(topic) & 255)) + topic
    if first & 6:
        body += bytes((pid >> 8, pid & 255))
    return packet(first, body + payload)


def feed(data, limit=LIMIT, step=1 << 20):
    """Return the framer's packets for these bytes, as (kind, packet, body).

    Its memory is checked at each step.
    """
    framer = mqtt.Framer(limit)
    whole = len(framer._view)
    equal(whole, limit)
    packets = []
    have = at = 0
    while at < len(data):
        space = framer.space()
        check(len(space) > 0, "no space for a byte that it wants")
        check(have + len(space) <= limit, "space beyond the limit")
        count = min(len(space), step, len(data) - at)
        space[:count] = data[at : at + count]
        at += count
        have += count
        if framer.fed(count):
            check(not framer.started)
            packets.append((framer.kind, bytes(framer.packet()), bytes(framer.body())))
            framer.clear()
            have = 0
        else:
            check(framer.started)
        equal(len(framer._view), whole)
    return packets


def refused(code, data, limit=LIMIT):
    """Refused alike in one piece and byte by byte, and by no byte later."""
    raises(code, feed, data, limit)
    raises(code, feed, data, limit, 1)


GOOD = (
    (0x20, b"\x20\x02\x00\x00"),
    (0x20, b"\x20\x02\x00\x05"),
    (0x40, b"\x40\x02\x00\x01"),
    (0x40, b"\x40\x02\xff\xff"),
    (0x90, b"\x90\x03\x00\x01\x00"),
    (0x90, b"\x90\x03\x00\x01\x01"),
    (0x90, b"\x90\x03\x12\x34\x80"),
    (0xD0, b"\xd0\x00"),
    (0x30, publish()),
    (0x31, publish(first=0x31)),
    (0x32, publish(first=0x32, payload=b"hello")),
    (0x33, publish(first=0x33)),
    (0x3A, publish(first=0x3A, pid=65535)),
    (0x3B, publish(first=0x3B)),
    (0x30, publish(b"a/b", bytes(range(256)))),
    (0x30, publish(b"x" * 300, b"y")),
)


def test_good_packets():
    for step in (1, 2, 3, 7, 1 << 20):
        for kind, data in GOOD:
            ((got, whole, body),) = feed(data, step=step)
            equal((got, whole), (kind, data))
            check(data.endswith(body))
    stream = b"".join(data for _, data in GOOD)
    for step in (1, 2, 3, 5, 1 << 20):
        equal([one for _, one, _ in feed(stream, step=step)], [data for _, data in GOOD])


def test_every_early_end():
    for _, data in GOOD:
        for end in range(len(data)):
            for step in (1, 1 << 20):
                equal(feed(data[:end], step=step), [])


def test_every_length():
    for n in (3, 4, 126, 127, 128, 129, 255, 256, 2000):
        data = publish(payload=bytes(n - 3))
        equal(feed(data)[0][1], data)
        equal(len(feed(data, step=1)[0][2]), n)
    # Two bytes of length end at 16,383, three begin at 16,384.
    for n in (16383, 16384, 16385):
        data = publish(payload=bytes(n - 3))
        equal(len(data), n + (3 if n < 16384 else 4))
        equal(len(feed(data, len(data))[0][2]), n)
        refused("mqtt-too-large", data[:4], len(data) - 1)
    # And four at 2,097,152.
    equal(length_field(2097152), b"\x80\x80\x80\x01")
    refused("mqtt-too-large", b"\x30\x80\x80\x80\x01")


def test_the_limit():
    fits = publish(payload=bytes(LIMIT - 6))
    equal(len(fits), LIMIT)
    equal(feed(fits)[0][1], fits)
    refused("mqtt-too-large", publish(payload=bytes(LIMIT - 5)))
    # Refused by the announcement alone: not one byte of the body is awaited.
    refused("mqtt-too-large", publish(payload=bytes(LIMIT - 5))[:3])
    refused("mqtt-too-large", b"\x30\xff\xff\xff\x7f")
    refused("mqtt-too-large", b"\x20\xff\xff\xff\x7f")


def test_short_lengths():
    refused("mqtt-malformed", b"\x30\x00")
    refused("mqtt-malformed", b"\x30\x01\x00")
    refused("mqtt-malformed", b"\x30\x02\x00\x00")
    for n in range(5):
        refused("mqtt-malformed", b"\x32" + bytes((n,)) + b"\x00\x01t\x00"[:n])


def test_length_of_five_bytes():
    for last in (0x80, 0x81, 0xFF):
        refused("mqtt-malformed", b"\x30\x80\x80\x80" + bytes((last,)))
        refused("mqtt-malformed", b"\x30\xff\xff\xff" + bytes((last,)) + b"\x01")


def test_length_not_shortest():
    good = publish(payload=b"abc")
    for zeros in (b"\x00", b"\x80\x00", b"\x80\x80\x00"):
        refused("mqtt-malformed", b"\x30" + bytes((good[1] | 0x80,)) + zeros + good[2:])
    refused("mqtt-malformed", b"\xd0\x80\x00")
    refused("mqtt-malformed", b"\x20\x82\x00\x00\x00")


def test_every_first_byte():
    taken = []
    for first in range(256):
        body = b"\x00\x01t\x00\x01" if first & 0xF0 == 0x30 else b"\x00\x00\x00"
        body = body[: {0x20: 2, 0x40: 2, 0xD0: 0}.get(first, len(body))]
        try:
            feed(packet(first, body))
        except mqtt.PeerError:
            refused("mqtt-malformed", packet(first, body))
            # At the second byte at the latest, whatever length it announces.
            for length in (0, 1, 2, 127, 128, 255):
                refused("mqtt-malformed", bytes((first, length)))
        else:
            taken.append(first)
    # No QoS 2 (x4–x7, xC–xF), no DUP without QoS (38, 39), nothing that only a client sends.
    equal(taken, [0x20, 0x30, 0x31, 0x32, 0x33, 0x3A, 0x3B, 0x40, 0x90, 0xD0])


def test_fixed_lengths():
    for first, right in ((0x20, 2), (0x40, 2), (0x90, 3), (0xD0, 0)):
        for n in range(130):
            if n != right:
                refused("mqtt-malformed", packet(first, bytes(n)))


def test_codes():
    for flags in range(256):
        for code in (0, 5):
            data = b"\x20\x02" + bytes((flags, code))
            if flags:
                refused("mqtt-malformed", data)
            else:
                equal(feed(data)[0][0], mqtt.CONNACK)
    for code in range(256):
        data = b"\x20\x02\x00" + bytes((code,))
        if code > 5:
            refused("mqtt-malformed", data)
        else:
            equal(feed(data)[0][2][1], code)
    for code in range(256):
        data = b"\x90\x03\x00\x01" + bytes((code,))
        if code in (0, 1, 0x80):
            equal(feed(data)[0][2][2], code)
        else:
            refused("mqtt-malformed", data)


def test_topics():
    # Its length beyond the packet, by one and by far.
    for length in (2, 3, 255, 256, 65535):
        refused("mqtt-malformed", packet(0x30, bytes((length >> 8, length & 255)) + b"t"))
    equal(feed(packet(0x30, b"\x00\x03abc"))[0][2], b"\x00\x03abc")
    # With QoS 1 the packet id must have room behind it.
    for length in (4, 5, 6):
        refused("mqtt-malformed", packet(0x32, bytes((0, length)) + b"tttt\x00"))
    equal(feed(packet(0x32, b"\x00\x03ttt\x00\x01"))[0][0], 0x32)
    refused("mqtt-malformed", packet(0x30, b"\x00\x00payload"))
    refused("mqtt-malformed", packet(0x32, b"\x00\x00\x00\x01payload"))


def test_packet_ids():
    refused("mqtt-malformed", publish(first=0x32, pid=0))
    refused("mqtt-malformed", publish(first=0x3B, pid=0))
    for pid in (1, 255, 256, 65535):
        equal(len(feed(publish(first=0x32, pid=pid))), 1)


def dropped(data, limit=LIMIT, step=1 << 20):
    """Return the packets of a framer that may skip, and what it was asked.

    Each is (kind, size skipped, topic, packet ID) or (kind, packet).
    """
    asked = []

    def may_skip(size):
        asked.append(size)
        return True

    framer = mqtt.Framer(limit, may_skip)
    packets = []
    at = 0
    while at < len(data):
        space = framer.space()
        check(0 < len(space) <= limit)
        count = min(len(space), step, len(data) - at)
        space[:count] = data[at : at + count]
        at += count
        if not framer.fed(count):
            check(framer.started)
            continue
        if framer.skipped:
            packets.append((framer.kind, framer.skipped, framer.topic, framer.pid))
        else:
            packets.append((framer.kind, bytes(framer.packet())))
        framer.clear()
        check(not framer.started)
    return packets, asked


def test_messages_that_are_skipped():
    """Every size near the buffer's multiples, every packet ID, pieces of any size."""
    small = publish(b"t", b"x")
    for limit, step in ((64, 1 << 20), (64, 1), (64, 7)):
        for size in (65, 66, 127, 128, 129, 130, 191, 192, 193, 300):
            for first in (0x30, 0x31, 0x32, 0x3B):
                for length in (1, 2, 40, 56, 57, 58, 59, 60, 61, 62, 63, 64, 100, 120, 126):
                    topic = bytes([97 + length % 26]) * length
                    room = size - 2 - (1 if size > 129 else 0) - 2 - length - (first & 6 and 2)
                    if room < 0:
                        continue
                    data = publish(topic, bytes(room), first, 0x1234)
                    if len(data) != size:
                        continue  # no packet has this size
                    start = size - room - length - (first & 6 and 2)
                    seen = topic if start + length <= limit else b""
                    wanted = (first, size, seen, 0x1234 if first & 6 else 0)
                    packets, asked = dropped(small + data + small, limit, step)
                    equal(packets, [(0x30, small), wanted, (0x30, small)])
                    equal(asked, [size])
    # A long topic is not kept, whatever the buffer.
    equal(dropped(publish(b"t" * 128, bytes(3000)))[0][0][2], b"t" * 128)
    equal(dropped(publish(b"t" * 129, bytes(3000)))[0][0][2], b"")


def test_messages_that_are_not_skipped():
    def may_skip(size):
        return size != 2103

    def fill(data):
        framer = mqtt.Framer(LIMIT, may_skip)
        at = 0
        while at < len(data):
            count = len(framer.space())
            framer.space()[:] = (data[at:] + bytes(count))[:count]
            at += count
            framer.fed(count)

    fill(publish(payload=bytes(2095)))
    raises("mqtt-too-large", fill, publish(payload=bytes(2097)))
    # Nothing but messages has such a size.
    for first in (0x20, 0x40, 0x90, 0xD0):
        raises("mqtt-too-large", fill, packet(first, bytes(2095)))
    for data in (
        packet(0x30, b"\0\0" + bytes(3000)),
        packet(0x30, b"\x0b\xb9" + bytes(3000)),
        packet(0x32, b"\x0b\xb7" + bytes(3000)),
        publish(first=0x32, pid=0, payload=bytes(3000)),
    ):
        raises("mqtt-malformed", fill, data)
    fill(packet(0x32, b"\x0b\xb6" + b"1" * 3000))


def test_clear_drops_the_packet():
    framer = mqtt.Framer(LIMIT)
    framer.space()[:1] = b"\x32"
    check(not framer.fed(1) and framer.started)
    framer.clear()
    check(not framer.started)
    equal(len(framer.space()), 2)
    framer.space()[:2] = b"\xd0\x00"
    check(framer.fed(2))
    equal(framer.kind, mqtt.PINGRESP)


def test_retained():
    framer = mqtt.Framer(LIMIT)
    for first, wanted in ((0x30, False), (0x31, True), (0x32, False), (0x33, True), (0x3B, True)):
        data = publish(first=first)
        framer.space()[:2] = data[:2]
        framer.fed(2)
        framer.space()[:] = data[2:]
        check(framer.fed(len(data) - 2))
        equal(framer.retained, wanted)
        framer.clear()
    # PUBACK's bit pattern has nothing to say about messages.
    framer.space()[:] = b"\x40\x02"
    framer.fed(2)
    framer.space()[:] = b"\x00\x01"
    framer.fed(2)
    check(not framer.retained)
