"""The authority's connection to the broker: no delays by Nagle's algorithm, and back at once."""

import contextlib
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import paho.mqtt.client as mqtt
from host_kit import new_fleet, refused
from process_kit import PATIENCE_S
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.mosquitto import registry
from warden_host.broker.mosquitto.broker import Broker
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY, Topic
from warden_host.service import link as module
from warden_host.service.link import AppLink


@contextlib.contextmanager
def connected(
    fleet: Fleet, change: Callable[[str, bool], object] = lambda *_: None
) -> Iterator[AppLink]:
    """The authority's link, once it is up. change: told of its ends and returns."""
    link = AppLink(fleet, AUTHORITY, (), lambda *_: None, lambda: None, change, lambda *_: None)
    try:
        link.wait(PATIENCE_S)
        yield link
    finally:
        link.close()


def wait_until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not reached() and time.monotonic() < end:
        time.sleep(0.01)


def left(link: AppLink) -> int:
    """Return how many messages are not acknowledged: with the guard, none is just under way."""
    with link._guard:
        return len(link._waiting) + len(link._queue)


def test_a_restarted_broker_is_reached_again(tmp_path):
    fleet = new_fleet(tmp_path)
    changes = []
    back = threading.Event()

    def change(appid: str, up: bool) -> None:
        changes.append((appid, up))
        if up:
            back.set()

    with Broker(fleet) as broker:
        link = AppLink(
            fleet, AUTHORITY, (), lambda *_: None, lambda: None, change, lambda *_: None
        )
        try:
            link.wait(PATIENCE_S)
            connection = link._client.socket()
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            broker.stop()
            broker.start()
            assert back.wait(PATIENCE_S)
            connection = link._client.socket()
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        finally:
            link.close()
    assert changes[:2] == [(AUTHORITY, False), (AUTHORITY, True)]


def test_reconnects_come_before_those_of_the_devices():
    """A device waits up to a second for its first attempt, and then sends its hello."""
    waits = [module.LEAST_DELAY_S]
    for _ in range(5):
        waits.append(module.next_delay(waits[-1]))
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_many_threads_publish_and_nothing_is_lost_or_overtaken(tmp_path):
    fleet = new_fleet(tmp_path)
    password = device_password()
    with registry.opened(fleet) as accounts:
        accounts.put(device_account("relay", "D1", password))
    arrived: list[tuple[str, int]] = []
    subscribed, all_there = threading.Event(), threading.Event()
    each, senders = 30, ("a", "b", "c")  # the broker holds 100 messages for a device

    def on_message(_client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        arrived.append((message.topic.split("/")[6], int(message.payload)))
        if len(arrived) == each * len(senders):
            all_there.set()

    device = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="d:relay:D1")
    device.username_pw_set("d:relay:D1", password)
    device.tls_set(str(fleet.keys / "ca.crt"))
    device.on_connect = lambda *_: device.subscribe("iot-2/type/relay/id/D1/cmd/#", 1)
    device.on_subscribe = lambda *_: subscribed.set()
    device.on_message = on_message
    with Broker(fleet):
        with connected(fleet) as link, contextlib.ExitStack() as ends:
            ends.callback(device.loop_stop)
            ends.callback(device.disconnect)
            device.connect("127.0.0.1", fleet.settings.broker.port)
            device.loop_start()
            assert subscribed.wait(PATIENCE_S)

            def send(name: str) -> None:
                for number in range(each):
                    link.publish(Topic("relay", "D1", "cmd", name, "json"), b"%d" % number)

            threads = [threading.Thread(target=send, args=(name,)) for name in senders]
            for thread in threads:
                thread.start()
            assert all_there.wait(PATIENCE_S)
    for name in senders:
        assert [number for sender, number in arrived if sender == name] == list(range(each))


def test_a_thread_that_holds_the_connection_sends_what_others_left(tmp_path):
    fleet = new_fleet(tmp_path)
    with Broker(fleet):
        with connected(fleet) as link:
            with link._guard:  # as a thread that reads has it
                link.publish(Topic("relay", "D1", "cmd", "x", "json"), b"")
                assert len(link._waiting) == 1
            link._wake_thread()
            wait_until(lambda: not link._waiting)
            assert not link._waiting


def test_an_acknowledgement_alone_does_not_wake_the_thread(tmp_path):
    """To wake it up costs as much as to read the reply, which mostly follows."""
    fleet = new_fleet(tmp_path)
    with Broker(fleet), connected(fleet) as link:
        connection = link._client.socket()
        least = connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)
        # TLS 1.2 adds 29 bytes, TLS 1.3 22: to a PUBACK of 4, or to a PUBLISH of 33 and more.
        assert 29 + 4 < least <= 22 + 33
        link.publish(Topic("relay", "D1", "cmd", "x", "json"), b"")
        wait_until(lambda: not left(link))
        assert not left(link)  # read all the same, when the keepalive is looked at


def test_what_was_published_while_the_broker_was_away_is_sent_after_it(tmp_path):
    fleet = new_fleet(tmp_path)
    with Broker(fleet) as broker:
        with connected(fleet) as link:
            broker.stop()
            for number in range(50):
                link.publish(Topic("relay", "D1", "cmd", "x", "json"), b"%d" % number)
            assert left(link) == 50
            broker.start()
            wait_until(lambda: not left(link))
            assert left(link) == 0  # all acknowledged


def test_what_the_connection_has_no_room_for_is_written_later(tmp_path):
    fleet = new_fleet(tmp_path)
    with Broker(fleet) as broker:
        with connected(fleet) as link:
            link._client.socket().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            os.kill(broker.pid, signal.SIGSTOP)  # it reads nothing
            try:
                full, end = False, time.monotonic() + PATIENCE_S
                while not full and time.monotonic() < end:
                    link.publish(Topic("relay", "D1", "cmd", "x", "json"), bytes(1500))
                    sent = list(link._queue._sent)  # at once: the link's thread changes it
                    link._queue.acknowledge(sent[0] if sent else 0)  # more than a window
                    full = bool(link._unwritten)  # once: the link's thread finds room later
                assert full
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            wait_until(lambda: not (left(link) or link._unwritten))
            assert left(link) == len(link._unwritten) == 0
            assert link._up.is_set()


def test_a_connection_that_takes_nothing_is_given_up(tmp_path):
    fleet = new_fleet(tmp_path)
    with Broker(fleet):
        lost = threading.Event()
        with connected(fleet, lambda _, up: up or lost.set()) as link:

            def fails(_data: bytes) -> int:
                raise ssl.SSLError("broken")

            link._client.socket().send = fails
            link.publish(Topic("relay", "D1", "cmd", "x", "json"), b"")
            assert lost.wait(PATIENCE_S)
            link.wait(PATIENCE_S)
            wait_until(lambda: not left(link))
            assert left(link) == 0


def test_a_slow_connection_is_no_lost_one(tmp_path):
    """A ping in the middle of a packet would break it: none is sent while bytes are written."""
    fleet = new_fleet(tmp_path)
    with Broker(fleet):
        with connected(fleet) as link:
            written: list[int] = []

            def one_byte(_data: bytearray) -> int:
                if written:
                    raise ssl.SSLWantWriteError
                written.append(1)
                return 1

            with link._guard:
                link._client.socket().send = one_byte
                link._written = 0.0
                link._queue.add("t", b"")
                link._write()
                assert link._unwritten
                assert link._written > 0.0


def test_a_bug_of_the_client_costs_one_connection(tmp_path):
    """Without its thread the link would be deaf, and no message would say so."""
    fleet = new_fleet(tmp_path)
    with Broker(fleet):
        lost = threading.Event()
        with connected(fleet, lambda _, up: up or lost.set()) as link:
            first, whole = link._client.socket(), link._client.loop_misc

            def fails() -> mqtt.MQTTErrorCode:
                if link._client.socket() is first:
                    raise ValueError("a bug")
                return whole()

            link._client.loop_misc = fails  # which is called once a second
            assert lost.wait(PATIENCE_S)
            link.wait(PATIENCE_S)
            assert link._thread.is_alive()


class Refused:
    """The reason of an answer of the broker's that grants nothing."""

    is_failure = True

    def __str__(self) -> str:
        return "Not authorized"


def test_what_the_broker_refuses_brings_no_link_up_and_is_told(tmp_path):
    fleet = new_fleet(tmp_path)
    with Broker(fleet), connected(fleet) as link, link._guard:
        link._up.clear()
        link._awaited = {7}
        with refused("timed-out"):
            link.wait(0)
        link._on_subscribe(link._client, None, 8, [Refused()], None)  # of none that is waited for
        with refused("timed-out"):
            link.wait(0)
        link._on_subscribe(link._client, None, 7, [Refused()], None)
        with refused("broker-refused") as error:
            link.wait(0)
        assert "a subscription was refused" in str(error)
        link._accepted, link._awaited, sent = False, set(), len(link._queue)
        link._on_connect(link._client, None, None, Refused(), None)
        with refused("broker-refused") as error:
            link.wait(0)
        assert "Not authorized" in str(error)
        assert (link._accepted, link._awaited, len(link._queue)) == (False, set(), sent)


def test_a_broker_that_is_not_there_leaves_nothing_open(tmp_path, monkeypatch):
    ends: list[socket.socket] = []
    pair = socket.socketpair

    def made(*given):
        ends.extend(found := pair(*given))
        return found

    monkeypatch.setattr(module.socket, "socketpair", made)
    with refused("unreachable"), connected(new_fleet(tmp_path)):
        pass
    assert ends
    assert {end.fileno() for end in ends} == {-1}
