"""The device's Client and Link, a process of their own, against servers that lie, stall, dribble
and flood. Servers that are refused: tests/e2e/tls_table.py.

Each refusal is told by its code. Where a peer stalls, the ticks of the device's event loop are
counted: a loop that was held has none.
"""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import server_kit
from cryptography.hazmat.primitives import serialization
from link_kit import Driver
from server_kit import (
    HOST,
    Handler,
    certificate,
    context,
    hold,
    listening,
    log_in,
    over_tls,
    server_hello,
    shown,
)
from warden_host.fleet import pki

# Deadlines of the tests in which a peer stalls, and the ticks that a free loop makes at least
# meanwhile: of 100 and more on a machine that does nothing else. One that was held makes two.
SHORT = {"handshake_ms": 1500, "stall_ms": 1000}
TICKS = 4


@dataclass
class World:
    """A CA that the device trusts, the server's leaf that it pins, and the backup."""

    authority: pki.CertificateAuthority
    leaf: pki.Leaf
    backup: pki.Key

    @property
    def pins(self) -> list[bytes]:
        return [pki.pin(self.leaf.key), pki.pin(self.backup)]


@pytest.fixture(scope="module")
def world() -> World:
    authority = pki.new_ca("The device's CA")
    return World(authority, authority.issue((HOST,)), pki.new_key())


@pytest.fixture
def drive(world: World, micropython: str, repo: Path, umqtt_path: Path, tmp_path: Path) -> Driver:
    return Driver(
        micropython, repo / "lib", umqtt_path, tmp_path, [world.authority.der()], world.pins
    )


Serve = Callable[..., Handler]


@pytest.fixture
def good(world: World, tmp_path: Path) -> Serve:
    """The right server; what it does after the hand-shake is the test's."""

    def serve(handler: Handler) -> Handler:
        return over_tls(context(tmp_path, [world.leaf.certificate], world.leaf.key), handler)

    return serve


def broker(connection: socket.socket) -> None:
    while True:
        server_kit.answer(connection, *server_kit.packet(connection))


# -- the good case, so that no refusal below is one of everything ---------------------------------


def test_the_right_server(drive: Driver, good: Serve) -> None:
    with listening(good(broker)) as port:
        out = drive(port, pump=False, publish=[["a/b", 10], ["a/b", 1500]], times=3)
    assert out["codes"] == ["", "", ""]
    assert out["connected"] == 3


def test_subscriptions_after_each_connect(drive: Driver, good: Serve) -> None:
    topics: list[list[bytes]] = []

    def record(connection: socket.socket) -> None:
        mine: list[bytes] = []
        topics.append(mine)
        while True:
            first, body = server_kit.packet(connection)
            if first == 0x82:
                mine.append(body[4:-1])
            server_kit.answer(connection, first, body)
            if len(mine) == 3:
                return  # and the connection falls

    with listening(good(record)) as port:
        out = drive(port, topics=["c/1", "a/2", "b/3"], times=3)
    assert out["codes"] == ["link-closed"] * 3
    assert topics == [[b"c/1", b"a/2", b"b/3"]] * 3


# -- credentials ----------------------------------------------------------------------------------

EVERY = bytes(range(256))
LONG = EVERY * 256


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (b"", b""),
        (b"\0", b"\xff"),
        (EVERY[:255], EVERY[1:]),
        (b"", LONG[:65535]),
        (LONG[1:], b""),
        (LONG[:65535], LONG[1:]),
        (None, None),
    ],
    ids=["0", "1", "255", "0+65535", "65535+0", "65535", "none"],
)
def test_credentials_arrive_exactly(
    drive: Driver, good: Serve, user: bytes | None, password: bytes | None
) -> None:
    arrived: list[bytes] = []

    def record(connection: socket.socket) -> None:
        arrived.append(log_in(connection))

    with listening(good(record)) as port:
        out = drive(
            port,
            user=None if user is None else user.hex(),
            password=None if password is None else password.hex(),
        )
    assert out["connected"] == 1
    (body,) = arrived
    assert body[:7] == b"\0\4MQTT\4"
    assert body[7] == (0x02 if user is None else 0xC2)
    wanted = [b"drive"] if user is None or password is None else [b"drive", user, password]
    assert server_kit.fields(body) == wanted


# -- servers that are not ours --------------------------------------------------------------------


def test_forged_leaf_below_the_real_ca(drive: Driver, world: World, tmp_path: Path) -> None:
    """The chain shows the real CA's certificate, which any server can copy; the leaf it did not
    sign."""
    key = pki.new_key()
    forged = certificate(key, world.authority.certificate, key)
    chain = [forged, world.authority.certificate]
    with listening(over_tls(context(tmp_path, chain, key), broker)) as port:
        assert drive.code(port) in ("certificate-untrusted", "pin-mismatch")
        # Even where its key is pinned, the signature that is missing decides.
        pins = [pki.pin(key), world.pins[1]]
        assert drive.code(port, pins=pins) == "certificate-untrusted"


def test_another_key_under_our_ca(drive: Driver, world: World, tmp_path: Path) -> None:
    leaf = world.authority.issue((HOST,))
    for chain in ([leaf.certificate], [leaf.certificate, world.leaf.certificate]):
        with listening(over_tls(context(tmp_path, chain, leaf.key), broker)) as port:
            assert drive.code(port) == "pin-mismatch"


def test_a_pin_that_ends(drive: Driver, world: World, good: Serve) -> None:
    """Refused from its end on, and a connection that was made before is closed then."""

    def ending(moment: float) -> list[bytes]:
        return [world.pins[0] + int(moment).to_bytes(8, "big"), world.pins[1]]

    with listening(good(broker)) as port:
        now = time.time()
        assert drive.code(port, pins=ending(now + 86400)) == ""
        assert drive.code(port, pins=ending(now)) == "pin-expired"
        # A loaded machine may need longer than that for the hand-shake.
        (code,) = drive(port, pins=ending(time.time() + 3))["codes"]
        assert code in ("link-closed", "pin-expired")


def test_a_pin_of_the_ca_does_not_count(drive: Driver, world: World, tmp_path: Path) -> None:
    leaf = world.authority.issue((HOST,))
    pins = [pki.pin(world.authority.certificate), world.pins[1]]
    chain = [leaf.certificate, world.authority.certificate]
    with listening(over_tls(context(tmp_path, chain, leaf.key), broker)) as port:
        assert drive.code(port, pins=pins) == "pin-mismatch"


def test_a_pin_of_an_intermediate_does_not_count(drive: Driver, tmp_path: Path) -> None:
    root_key, middle_key, key = pki.new_key(), pki.new_key(), pki.new_key()
    root = certificate(root_key, name="root", ca=True)
    middle = certificate(middle_key, root, root_key, name="middle", ca=True)
    leaf = certificate(key, middle, middle_key)
    cas = [root.public_bytes(serialization.Encoding.DER)]
    backup = os.urandom(32)
    with listening(over_tls(context(tmp_path, [leaf, middle], key), broker)) as port:
        assert drive.code(port, cas=cas, pins=[pki.pin(leaf), backup]) == ""
        assert drive.code(port, cas=cas, pins=[pki.pin(middle), pki.pin(root)]) == "pin-mismatch"
    # The leaf as a CA: what is below it is not what was pinned.
    below_key = pki.new_key()
    below = certificate(below_key, leaf, key, name="below")
    chain = [below, leaf, middle]
    with listening(over_tls(context(tmp_path, chain, below_key), broker)) as port:
        code = drive.code(port, cas=cas, pins=[pki.pin(leaf), backup])
        assert code in ("certificate-untrusted", "pin-mismatch")


def test_not_yet_valid_on_a_clock_that_cannot_be_set(
    drive: Driver, world: World, tmp_path: Path
) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    leaf = world.authority.issue((HOST,), key=world.leaf.key, not_before=tomorrow)
    with listening(over_tls(context(tmp_path, [leaf.certificate], leaf.key), broker)) as port:
        assert drive.code(port) == "certificate-not-yet-valid"


# -- not TLS, or TLS by hand ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\x02\0\0",
        b"\0" * 64,
        b"\xff" * 4096,
        b"\x16\x03\x03\xff\xff" + bytes(100),
        b"\x16\x03\x03\0\4\2\xff\xff\xff" + bytes(100),
        b"\x15\x03\x03\0\2\2\x28",
    ],
    ids=["http", "mqtt", "zeros", "ones", "record", "hello", "alert"],
)
def test_no_tls(drive: Driver, data: bytes) -> None:
    def garbage(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(data)
        hold(connection)

    with listening(garbage) as port:
        out = drive(port, **SHORT)
    codes = ("no-tls", "tls-failed", "certificate-too-large", "link-timeout")
    assert out["codes"][0] in codes
    assert out["codes"][0] != "link-timeout" or out["ticks"][0] > TICKS


def test_a_silent_server(drive: Driver) -> None:
    """Twice: a connection that stalled leaves nothing behind that would hold the next one."""
    with listening(hold) as port:
        out = drive(port, times=2, **SHORT)
    assert out["codes"] == ["link-timeout"] * 2
    assert min(out["ticks"]) > TICKS


def test_never_accepted(drive: Driver) -> None:
    """A listener whose queue is full: the TCP connection itself gets no answer."""
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen(0)
        held = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(server.getsockname())
            held.append(one)
        out = drive(server.getsockname()[1], **SHORT)
        for one in held:
            one.close()
    assert out["codes"] == ["link-timeout"]
    assert out["ticks"][0] > TICKS


def test_dribbled_handshake(drive: Driver) -> None:
    """One byte now and then, each of them well-formed so far: one deadline holds for the whole
    hand-shake."""
    hello = server_hello()

    def dribble(connection: socket.socket) -> None:
        connection.recv(4096)
        for byte in hello:
            connection.sendall(bytes((byte,)))
            time.sleep(0.3)

    with listening(dribble) as port:
        out = drive(port, handshake_ms=3000, stall_ms=1000)
    assert out["codes"] == ["link-timeout"]
    assert out["ticks"][0] > TICKS


def test_falls_after_the_certificate(drive: Driver, world: World) -> None:
    """A line that breaks there must not be told as a wrong certificate."""

    def close(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(shown(world.leaf.certificate))

    with listening(close) as port:
        assert drive.code(port) == "link-closed"

    def stall(connection: socket.socket) -> None:
        close(connection)
        hold(connection)

    with listening(stall) as port:
        out = drive(port, **SHORT)
    assert out["codes"] == ["link-timeout"]
    assert out["ticks"][0] > TICKS


@pytest.mark.parametrize("server", ["refused", "garbage", "good"])
def test_no_connection_leaves_anything_behind(
    drive: Driver, world: World, tmp_path: Path, server: str
) -> None:
    """Who can make a device connect again and again must not wear its memory down."""

    def garbage(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        hold(connection)

    leaf = world.leaf if server == "good" else world.authority.issue((HOST,))
    secure = over_tls(context(tmp_path, [leaf.certificate], leaf.key), broker)
    with listening(garbage if server == "garbage" else secure) as port:
        out = drive(port, pump=False, times=40)
    assert len(set(out["codes"])) == 1
    assert len(set(out["files"])) == 1
    # The lists that the driver keeps of it all grow by a few words; a callback that raised would
    # cost 2 KB each time. A stale word can hold a single buffer of 6 KB for a while: the best of
    # ten connections is compared with the worst of ten, fifteen later.
    free = out["free"]
    assert min(free[5:15]) - max(free[30:]) < 15 * 500, free


# -- the right server, broken behind the hand-shake -----------------------------------------------


def test_stalls_after_connect(drive: Driver, good: Serve) -> None:
    with listening(good(hold)) as port:
        out = drive(port, handshake_ms=2000, stall_ms=1000)
    assert out["codes"] == ["link-timeout"]
    assert out["ticks"][0] > TICKS


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("mqtt-malformed", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("mqtt-malformed", b"\xf3" * 64),
        ("mqtt-malformed", b"\xd0\0"),
        ("mqtt-malformed", b"\x20\x02\1\0"),
        ("mqtt-refused", b"\x20\x02\0\5"),
        ("mqtt-unavailable", b"\x20\x02\0\3"),
        ("mqtt-too-large", b"\x20\xff\xff\xff\x7f"),
        ("mqtt-malformed", b"\x30\xff\xff\xff\xff\xff"),
    ],
)
def test_bad_log_in_answer(drive: Driver, good: Serve, code: str, data: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        server_kit.packet(connection)
        connection.sendall(data)
        hold(connection)

    with listening(good(answer)) as port:
        out = drive(port)
    assert (out["codes"], out["connected"]) == ([code], 0)


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("mqtt-malformed", b"GET / HTTP/1.1\r\n\r\n"),
        ("mqtt-malformed", b"\x20\x02\0\0"),
        ("mqtt-malformed", b"\x34\x06\0\1t\0\1x"),
        ("mqtt-malformed", b"\x40\x02\0\1"),
        ("mqtt-too-large", b"\x30\xff\xff\x7f\0\1t" + bytes(1 << 16)),
        ("mqtt-too-large", b"\x30\xff\xff\xff\x7f"),
        ("link-closed", b""),
        ("link-closed", b"\x30\x7f\0\1t"),
    ],
)
def test_bad_packets(drive: Driver, good: Serve, code: str, data: bytes) -> None:
    def send(connection: socket.socket) -> None:
        log_in(connection)
        connection.sendall(data)
        if code != "link-closed":
            hold(connection)

    with listening(good(send)) as port:
        out = drive(port, times=2)
    assert (out["codes"], out["connected"], out["messages"]) == ([code] * 2, 2, 0)


def test_stalls_in_a_packet(drive: Driver, good: Serve) -> None:
    """One byte at a time does not keep a packet alive."""

    def dribble(connection: socket.socket) -> None:
        log_in(connection)
        connection.sendall(b"\x30\x7f\0\1t")
        while True:  # until the device hung up
            time.sleep(0.1)
            connection.sendall(b"x")

    with listening(good(dribble)) as port:
        out = drive(port, stall_ms=1000)
    assert out["codes"] == ["link-timeout"]
    assert out["ticks"][0] > TICKS


def test_answers_no_ping(drive: Driver, good: Serve) -> None:
    heard: list[int] = []

    def silent(connection: socket.socket) -> None:
        log_in(connection)
        heard.append(server_kit.packet(connection)[0])
        hold(connection)

    # Longer than a loaded machine needs for the answer to the log-in.
    with listening(good(silent)) as port:
        out = drive(port, keepalive_s=1, stall_ms=4000)
    assert heard == [0xC0]
    assert out["codes"] == ["link-timeout"]
    assert out["ticks"][0] > TICKS


def test_never_reads(drive: Driver, good: Serve) -> None:
    """The device's writes find no room: link-timeout, and the loop went on meanwhile."""

    def deaf(connection: socket.socket) -> None:
        log_in(connection)
        # Until the device hung up: the kernel says so without anything being read.
        while True:
            time.sleep(0.1)
            connection.sendall(b"\xd0\0")

    with listening(good(deaf)) as port:
        out = drive(port, flood=True, stall_ms=1000)
    assert out["codes"] == ["link-timeout"]
    assert out["ticks"][0] > TICKS


def test_endless_messages(drive: Driver, good: Serve) -> None:
    """A flood starves no other task: between any two messages all of them run."""
    count = 3000

    def flood(connection: socket.socket) -> None:
        log_in(connection)
        connection.sendall((b"\x30\x20\0\1t" + bytes(29)) * count)

    with listening(good(flood)) as port:
        out = drive(port, tick_ms=0)
    assert out["codes"] == ["link-closed"]
    assert out["messages"] == count
    assert out["longest"] <= 3
