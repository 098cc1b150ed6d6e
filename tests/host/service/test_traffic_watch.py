"""What connections send the broker, by the kernel: floods that the authority never sees."""

import queue
import socket

import pytest
from host_kit import DEVICE
from process_kit import PATIENCE_S
from warden_host import tcp_diag
from warden_host.reactions.settings import Budget
from warden_host.service import traffic_watch
from warden_host.service.traffic_watch import TrafficMeter, TrafficWatch
from warden_host.tcp_diag import Connection

BUDGET = Budget(kib_s=10, tolerance_s=4)
CLIENT = f"d:relay:{DEVICE}"
CLIENTS = {("10.0.0.1", 1): CLIENT, ("10.0.0.2", 2): "a:home", ("10.0.0.4", 4): "warden-admin"}

LOGGED_IN = 4.99  # all of them, steady seconds


def read(meter: TrafficMeter, counts, now: float, cookie: bytes = b"1") -> list[str]:
    def client_at(peer, since: float) -> str:
        return CLIENTS.get(peer, "") if since <= LOGGED_IN else ""

    present = {peer: Connection(cookie, count) for peer, count in counts.items()}
    found = meter.read(present, client_at, now)
    return [client for client, _ in list(found)]


@pytest.fixture
def meter():
    made = TrafficMeter(lambda client: BUDGET if client.startswith(("d:", "g:")) else None)
    read(made, {}, 4.95)
    return made


def test_the_kernel_tells_what_a_connection_received():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as near, server.accept()[0] as far:
            near.sendall(b"x" * 12345)
            left = 12345
            while left:
                left -= len(far.recv(left))
            ((peer, (cookie, count)),) = tcp_diag.received(port).items()
            assert (peer, count) == (near.getsockname(), 12345)
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            ((_, other),) = tcp_diag.received(port).items()
            assert other.cookie != cookie


class Kernel:
    """A netlink socket that answers once."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def __call__(self, *_):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.answer = b""

    def settimeout(self, seconds):
        pass

    def send(self, data):
        pass

    def recv(self, size):
        if not self.answer:
            raise TimeoutError
        answer, self.answer = self.answer, b""
        return answer


@pytest.mark.parametrize(
    "header",
    [(tcp_diag._HEADER.size, tcp_diag._ERROR), (0, tcp_diag._SOCK_DIAG_BY_FAMILY), (15, 20)],
)
def test_an_answer_of_the_kernel_that_is_none(monkeypatch, header):
    data = tcp_diag._HEADER.pack(*header, 0, 0, 0)
    monkeypatch.setattr(tcp_diag.socket, "socket", Kernel(data))
    with pytest.raises(OSError, match="refuses to list"):
        list(tcp_diag._dump(socket.AF_INET, 1))


def test_attributes_of_a_connection():
    head, info = bytes(tcp_diag._MESSAGE), bytes(tcp_diag._RECEIVED) + tcp_diag._COUNT.pack(7)
    other = tcp_diag._ATTRIBUTE.pack(5, 1) + bytes(4)  # padded to four bytes
    good = tcp_diag._ATTRIBUTE.pack(4 + len(info), tcp_diag._INFO) + info
    assert tcp_diag._bytes_received(head + other + good) == 7
    for wrong in (tcp_diag._ATTRIBUTE.pack(3, 1) + good, tcp_diag._ATTRIBUTE.pack(0, 1), b""):
        assert tcp_diag._bytes_received(head + wrong) is None


@pytest.mark.parametrize(
    ("family", "raw", "written"),
    [
        (socket.AF_INET, "c0000201" + 24 * "0", "192.0.2.1"),
        (socket.AF_INET6, "00000000000000000000ffffc0000201", "192.0.2.1"),
        (socket.AF_INET6, "20010db8000000000000000000000001", "2001:db8::1"),
        (socket.AF_INET6, "00000000000000000000000000000001", "::1"),
    ],
)
def test_an_address_has_one_form(family, raw, written):
    assert tcp_diag._address(family, bytes.fromhex(raw)) == written


def test_a_connection_that_rests_costs_no_look_at_budgets():
    asked = []

    def budget_of(client: str) -> Budget:
        asked.append(client)
        return BUDGET

    meter = TrafficMeter(budget_of)
    read(meter, {}, 4.95)
    peer = ("10.0.0.1", 1)
    read(meter, {peer: 100}, 5.0)
    read(meter, {peer: 100}, 5.5)  # its bucket empties
    assert asked
    asked.clear()
    read(meter, {peer: 100}, 6.0)
    assert asked == []
    read(meter, {peer: 101}, 6.5)
    assert asked == [CLIENT]


def test_a_connection_above_its_budget_is_found_once_in_a_while(meter):
    peer = ("10.0.0.1", 1)
    assert read(meter, {peer: 41 << 10}, 5.0) == [CLIENT]
    assert read(meter, {peer: 42 << 10}, 5.5) == []
    assert read(meter, {peer: 142 << 10}, 6.0) == [CLIENT]


def test_what_is_within_the_budget_is_no_flood(meter):
    peer = ("10.0.0.1", 1)
    for second in range(1, 600):
        assert read(meter, {peer: 9 * 1024 * second}, 5.0 + second) == []


def test_who_has_no_budget_and_who_has_not_logged_in_are_not_counted(meter):
    for peer in (("10.0.0.2", 2), ("10.0.0.3", 3), ("10.0.0.4", 4)):
        assert read(meter, {peer: 1 << 30}, 6.0) == []


def test_a_new_connection_gives_no_new_budget(meter):
    peer = ("10.0.0.1", 1)
    assert read(meter, {peer: 30 << 10}, 4.96) == []
    assert read(meter, {}, 4.97) == []
    assert read(meter, {peer: 30 << 10}, 4.98, b"2") == [CLIENT]


def test_a_client_that_sends_no_more_is_forgotten(meter):
    peer = ("10.0.0.1", 1)
    assert read(meter, {peer: 30 << 10}, 4.96) == []
    assert read(meter, {}, 8.0) == []
    assert not meter._levels


def test_a_stranger_at_a_devices_former_port_is_not_the_device(meter):
    peer = ("10.0.0.1", 1)
    assert read(meter, {peer: 1 << 10}, 5.0) == []
    assert read(meter, {peer: 1 << 30}, 5.5, b"2") == []  # at once after it
    assert read(meter, {}, 6.0) == []
    assert read(meter, {peer: 1 << 30}, 6.5, b"3") == []


def test_the_busiest_of_some_clients_is_found(meter, monkeypatch):
    monkeypatch.setitem(CLIENTS, ("10.0.0.5", 5), "g:hall")
    peers = [("10.0.0.1", 1), ("10.0.0.5", 5), ("10.0.0.2", 2)]

    def busiest(counts, clients, cookie: bytes = b"1") -> str:
        present = {peer: Connection(cookie, n) for peer, n in zip(peers, counts, strict=True)}
        return meter.busiest(present, lambda peer, _: CLIENTS.get(peer, ""), clients)

    assert read(meter, dict(zip(peers, (9000, 100, 100), strict=True)), 5.0) == []
    assert busiest((9100, 5000, 99_000), {CLIENT, "g:hall"}) == "g:hall"
    assert busiest((9100, 150, 99_000), {CLIENT, "g:hall"}) == CLIENT
    assert busiest((9000, 100, 99_000), {CLIENT, "g:hall"}) == ""
    assert busiest((9100, 9200, 99_000), {CLIENT, "g:hall"}, b"2") == "g:hall"  # new connections


@pytest.mark.parametrize("why", [OSError(24, "Too many open files"), TimeoutError()])
def test_a_look_that_fails_ends_no_watch(monkeypatch, why):
    """Nobody would look for floods from then on."""
    answers: list[object] = [why, {}, {("10.0.0.1", 1): Connection(b"1", 1 << 30)}]
    found: queue.SimpleQueue[str] = queue.SimpleQueue()

    def received(_port: int) -> object:
        one = answers.pop(0) if answers else {}
        if isinstance(one, Exception):
            raise one
        return one

    monkeypatch.setattr(traffic_watch, "PERIOD_S", 0.001)
    monkeypatch.setattr(tcp_diag, "received", received)
    watch = TrafficWatch(
        [1883], lambda *_: CLIENT, lambda _: BUDGET, lambda *one: found.put(one[0]), print
    )
    with watch:
        assert found.get(timeout=PATIENCE_S) == CLIENT


@pytest.mark.parametrize("why", [OSError(), AttributeError("AF_NETLINK")])
def test_where_nothing_tells_no_client_is_the_busiest(monkeypatch, why):
    def fails(_port: int) -> object:
        raise why

    monkeypatch.setattr(tcp_diag, "received", fails)
    watch = TrafficWatch([1883], lambda *_: CLIENT, lambda _: BUDGET, lambda *_: None, print)
    assert watch.busiest({CLIENT}) == ""
