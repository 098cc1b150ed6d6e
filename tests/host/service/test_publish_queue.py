"""Packets of messages to devices: their bytes, their IDs, and what is sent again."""

import pytest
from warden_host.service.publish_queue import FIRST_ID, WINDOW, PublishQueue


def packets(data: bytes) -> list[tuple[int, int, bytes, bytes]]:
    """Split bytes into (first byte, packet ID, topic, payload)."""
    found = []
    while data:
        length, at = 0, 1
        while True:
            length |= (data[at] & 0x7F) << (7 * (at - 1))
            at += 1
            if data[at - 1] < 0x80:
                break
        body, rest = data[at : at + length], data[at + length :]
        assert len(body) == length
        size = int.from_bytes(body[:2], "big")
        topic, tail = body[2 : 2 + size], body[2 + size :]
        found.append((data[0], int.from_bytes(tail[:2], "big"), topic, tail[2:]))
        data = rest
    return found


def taken(queue: PublishQueue) -> list[tuple[int, bytes]]:
    """Take what may be written; return the first bytes and the payloads."""
    return [each[::3] for each in packets(queue.take())]


@pytest.mark.parametrize("size", [0, 1, 100, 121, 122, 123, 16000, 16384, 70000])
def test_a_packet_is_a_publish_of_qos_1(size):
    queue = PublishQueue(10)
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    queue.add("a/b", payload)
    assert packets(queue.take()) == [(0x32, FIRST_ID, b"a/b", payload)]
    assert queue.take() == b""


def test_only_what_was_not_acknowledged_is_sent_again_in_order_with_dup():
    queue = PublishQueue(10)
    for number in range(4):
        queue.add("t", b"%d" % number)
    assert len(taken(queue)) == 4
    queue.add("t", b"new")
    for number in (FIRST_ID + 1, FIRST_ID + 1, FIRST_ID + 4, 0xFFFF):
        queue.acknowledge(number)
    queue.restart()
    assert taken(queue) == [(0x3A, b"0"), (0x3A, b"2"), (0x3A, b"3"), (0x32, b"new")]
    assert len(queue) == 4


def test_a_window_of_messages_is_on_its_way_at_once():
    queue = PublishQueue(100)
    for number in range(WINDOW + 5):
        queue.add("t", b"%d" % number)
    assert [payload for _, payload in taken(queue)] == [b"%d" % each for each in range(WINDOW)]
    assert taken(queue) == []
    queue.acknowledge(FIRST_ID + 3)
    queue.acknowledge(FIRST_ID)
    assert [payload for _, payload in taken(queue)] == [b"20", b"21"]


def test_a_full_queue_takes_no_more():
    queue = PublishQueue(2)
    for number in range(3):
        queue.add("t", b"%d" % number)
    assert [payload for _, payload in taken(queue)] == [b"0", b"1"]
    queue.add("t", b"3")
    assert (taken(queue), len(queue)) == ([], 2)
    queue.acknowledge(FIRST_ID)
    queue.add("t", b"4")
    assert [payload for _, payload in taken(queue)] == [b"4"]


def test_ids_are_those_that_the_client_does_not_use_and_that_are_free():
    queue = PublishQueue(3)
    queue.add("t", b"kept")
    queue.take()
    seen = set()
    for _ in range(0x8000 + 10):
        queue.add("t", b"")
        ((_, number, _, _),) = packets(queue.take())
        assert number >= FIRST_ID
        seen.add(number)
        queue.acknowledge(number)
    assert seen == set(range(FIRST_ID + 1, 0x10000))
