"""Messages extracted from a broker's bytes, and bytes left for the client, for every split."""

import socket
import ssl
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warden_host.service.publish_queue import FIRST_ID
from warden_host.service.publish_tap import PublishTap, tapped_socket

MOST = 300


def length(count: int) -> bytes:
    out = b""
    while True:
        count, low = divmod(count, 128)
        out += bytes([low | (128 if count else 0)])
        if not count:
            return out


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + length(len(body)) + body


def publish(topic: bytes, payload: bytes, first: int = 0x30) -> bytes:
    return packet(first, struct.pack(">H", len(topic)) + topic + payload)


class Kept:
    def __init__(self) -> None:
        self.heard: list[tuple[bytes, bytes, bool]] = []
        self.acknowledged: list[int] = []
        self.tap = PublishTap(self.sink, MOST, self.acknowledged.append)

    def sink(self, topic: bytes, payload: memoryview, retain: bool) -> None:
        self.heard.append((topic, bytes(payload), retain))

    def feed(self, *pieces: bytes) -> bytes:
        return b"".join(self.tap.feed(piece) for piece in pieces)


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_a_message_is_taken(kept):
    assert kept.feed(publish(b"a/b", b"payload")) == b""
    assert kept.heard == [(b"a/b", b"payload", False)]


def test_the_flags_of_a_message(kept):
    for first in (0x31, 0x38, 0x39):
        kept.feed(publish(b"t", b"", first))
    assert [retain for _, _, retain in kept.heard] == [True, False, True]


@pytest.mark.parametrize("first", [0x32, 0x34, 0x36, 0x33, 0x3A])
def test_a_message_that_wants_an_answer_is_the_clients(kept, first):
    data = publish(b"t", b"x", first)
    assert kept.feed(data) == data
    assert kept.heard == []


@pytest.mark.parametrize("first", [0x10, 0x20, 0x40, 0x90, 0xD0, 0x00, 0xF0])
def test_other_packets_are_the_clients(kept, first):
    data = packet(first, b"body") + packet(first, b"")
    assert kept.feed(data) == data


def puback(number: int) -> bytes:
    return packet(0x40, struct.pack(">H", number))


@pytest.mark.parametrize("cut", range(1, 8))
def test_an_acknowledgement_of_the_queues_is_taken(kept, cut):
    data = puback(FIRST_ID) + puback(0xFFFF)
    assert kept.feed(data[:cut], data[cut:]) == b""
    assert kept.acknowledged == [FIRST_ID, 0xFFFF]


def test_an_acknowledgement_of_the_clients_is_left(kept):
    data = puback(1) + puback(FIRST_ID - 1)
    assert kept.feed(data[:3], data[3:]) == data
    assert kept.acknowledged == []


@pytest.mark.parametrize(
    "data", [packet(0x40, b""), packet(0x40, b"\xff"), packet(0x40, b"\xff\xff\0")]
)
def test_a_malformed_acknowledgement_is_the_clients(kept, data):
    assert kept.feed(data) == data
    assert kept.acknowledged == []


def test_an_empty_payload_and_an_empty_topic(kept):
    kept.feed(publish(b"", b""), publish(b"t", b""))
    assert kept.heard == [(b"", b"", False), (b"t", b"", False)]


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\2t", b"\xff\xfft"])
def test_a_malformed_message_is_the_clients_to_refuse(kept, body):
    data = packet(0x30, body)
    assert kept.feed(data) == data
    assert kept.heard == []
    kept.feed(publish(b"t", b"next"))
    assert kept.heard == [(b"t", b"next", False)]


def test_a_length_of_five_bytes_ends_it(kept):
    data = b"\x30\xff\xff\xff\xff\x01" + publish(b"t", b"x")
    assert kept.feed(data[:3], data[3:]) == data
    assert kept.feed(publish(b"t", b"x")) == publish(b"t", b"x")
    assert kept.heard == []


def test_the_longest_message_and_one_more_byte(kept):
    kept.feed(publish(b"t", bytes(MOST - 3)))
    assert kept.heard == [(b"t", bytes(MOST - 3), False)]
    long = publish(b"t", bytes(MOST - 2))
    assert kept.feed(long[:5], long[5:250], long[250:], publish(b"t", b"x")) == b""
    assert kept.heard[1:] == [(b"", b"", False), (b"t", b"x", False)]


def test_a_long_message_is_not_buffered(kept):
    kept.feed(b"\x30\xff\xff\xff\x7f")  # 256 MiB will follow
    for _ in range(50):
        kept.feed(bytes(10_000))
        assert len(kept.tap._rest) == 0


def test_a_long_packet_of_the_clients_is_not_buffered(kept):
    kept.feed(b"\x20\xff\xff\xff\x7f")
    assert kept.feed(bytes(10_000)) == bytes(10_000)
    assert len(kept.tap._rest) == 0


packets = st.one_of(
    st.builds(publish, st.binary(max_size=20), st.binary(max_size=MOST + 40)),
    st.builds(packet, st.sampled_from([0x20, 0x40, 0x90, 0xD0, 0x32]), st.binary(max_size=400)),
    st.builds(puback, st.integers(0, 0xFFFF)),
)


def is_of_the_queue(part: bytes) -> bool:
    return part[:2] == b"\x40\x02" and int.from_bytes(part[2:], "big") >= FIRST_ID


@given(st.lists(packets, max_size=8), st.data())
@settings(max_examples=150, deadline=None)
def test_cuts_change_nothing(parts, data):
    whole = b"".join(parts)
    at_once, in_pieces = Kept(), Kept()
    left = at_once.feed(whole)
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=12))
    edges = sorted({0, len(whole), *cuts})
    pieces = [whole[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert in_pieces.feed(*pieces) == left
    assert in_pieces.heard == at_once.heard
    acknowledged = [part for part in parts if is_of_the_queue(part)]
    numbers = [int.from_bytes(part[2:], "big") for part in acknowledged]
    assert in_pieces.acknowledged == at_once.acknowledged == numbers
    mine = [part for part in parts if part[0] & 0xF6 != 0x30 and part not in acknowledged]
    assert left == b"".join(mine)
    assert len(at_once.heard) == len(parts) - len(mine) - len(acknowledged)


# The socket


class Server:
    """The other end of a TLS connection in memory, for a socket that does not block."""

    def __init__(self, fleet, kept: Kept) -> None:
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(fleet.keys / "server.crt", fleet.keys / "server.key")
        ours = ssl.create_default_context(cafile=str(fleet.keys / "ca.crt"))
        ours.sslsocket_class = tapped_socket(lambda: kept.tap)
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)
        self.socket = theirs.wrap_socket(left, server_side=True, do_handshake_on_connect=False)
        self.client = ours.wrap_socket(
            right, server_hostname="127.0.0.1", do_handshake_on_connect=False
        )
        waiting = [self.client, self.socket]
        while waiting:
            for each in list(waiting):
                try:
                    each.do_handshake()
                    waiting.remove(each)
                except ssl.SSLWantReadError:
                    pass


@pytest.fixture
def server(tmp_path, kept):
    from host_kit import new_fleet

    made = Server(new_fleet(tmp_path), kept)
    yield made
    made.client.close()
    made.socket.close()


def test_the_client_reads_what_is_its_own(server, kept):
    server.socket.send(publish(b"t", b"1"))
    with pytest.raises(ssl.SSLWantReadError):
        server.client.recv(1)
    assert kept.heard == [(b"t", b"1", False)]
    server.socket.send(packet(0x20, b"ab") + publish(b"t", b"2"))
    server.socket.send(packet(0xD0, b""))
    assert server.client.recv(1) == b"\x20"
    assert server.client.pending() == 5
    assert server.client.recv(3) == b"\x02ab"
    assert server.client.recv(100) == b"\xd0\0"
    assert server.client.pending() == 0
    with pytest.raises(ssl.SSLWantReadError):
        server.client.recv(1)
    assert len(kept.heard) == 2


def test_one_call_reads_so_many_records(server, kept):
    for number in range(100):
        server.socket.send(publish(b"t", b"%d" % number))
    with pytest.raises(ssl.SSLWantReadError):
        server.client.recv(1)
    assert len(kept.heard) == 64
    with pytest.raises(ssl.SSLWantReadError):
        server.client.recv(1)
    assert len(kept.heard) == 100


def test_an_end_is_an_end_and_loses_nothing_before_it(server, kept):
    server.socket.send(publish(b"t", b"last") + packet(0xD0, b""))
    server.socket.setblocking(False)
    try:
        server.socket.unwrap()
    except ssl.SSLWantReadError:
        pass
    assert server.client.recv(10) == b"\xd0\0"
    assert kept.heard == [(b"t", b"last", False)]
    assert server.client.recv(10) == b""


def test_a_broken_line_loses_nothing_before_it(server, kept):
    server.socket.send(publish(b"t", b"last"))
    server.socket.close()  # without a word of TLS: "unexpected end"
    seen = []
    for _ in range(2):
        try:
            seen.append(server.client.recv(10))
        except ssl.SSLWantReadError:
            seen.append(None)
    assert kept.heard == [(b"t", b"last", False)]
    assert seen[-1] == b""
