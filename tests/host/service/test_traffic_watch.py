"""What connections send the broker, by the kernel: floods that the authority never sees."""

import socket

import pytest
from host_kit import DEVICE
from warden_host import tcp_diag
from warden_host.reactions.settings import Budget
from warden_host.service.traffic_watch import TrafficMeter

BUDGET = Budget(kib_s=10, tolerance_s=4)
CLIENTS = {("10.0.0.1", 1): f"d:relay:{DEVICE}", ("10.0.0.2", 2): "a:home", ("10.0.0.4", 4): "d:x"}


def read(meter: TrafficMeter, counts, now: float) -> list[str]:
    found = meter.read(counts, lambda peer: CLIENTS.get(peer, ""), now)
    return [device for device, _ in list(found)]


@pytest.fixture
def meter():
    made = TrafficMeter(lambda _: BUDGET)
    read(made, {}, 5.0)
    return made


def test_the_kernel_tells_what_a_connection_received():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as near, server.accept()[0] as far:
            near.sendall(b"x" * 12345)
            left = 12345
            while left:
                left -= len(far.recv(left))
            assert tcp_diag.received(port) == {near.getsockname(): 12345}


def test_a_connection_above_its_budget_is_found_once_in_a_while(meter):
    peer = ("10.0.0.1", 1)
    assert read(meter, {peer: 41 << 10}, 5.0) == [DEVICE]
    assert read(meter, {peer: 42 << 10}, 5.5) == []
    assert read(meter, {peer: 142 << 10}, 6.0) == [DEVICE]


def test_what_is_within_the_budget_is_no_flood(meter):
    peer = ("10.0.0.1", 1)
    for second in range(1, 600):
        assert read(meter, {peer: 9 * 1024 * second}, 5.0 + second) == []


def test_applications_and_who_has_not_logged_in_are_not_counted(meter):
    for peer in (("10.0.0.2", 2), ("10.0.0.3", 3), ("10.0.0.4", 4)):
        assert read(meter, {peer: 1 << 30}, 6.0) == []


def test_a_connection_that_ended_is_forgotten(meter):
    peer = ("10.0.0.1", 1)
    assert read(meter, {peer: 30 << 10}, 5.0) == []
    assert read(meter, {}, 5.1) == []
    assert read(meter, {peer: 30 << 10}, 5.2) == []
