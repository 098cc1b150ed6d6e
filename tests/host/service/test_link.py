"""The authority's connection to the broker: no delays by Nagle's algorithm, and back at once."""

import socket
import threading

import paho.mqtt.client as mqtt
from host_kit import new_fleet
from process_kit import PATIENCE_S
from warden_host.broker.mosquitto.broker import Broker
from warden_host.names import AUTHORITY
from warden_host.service import link as module
from warden_host.service.link import AppLink


def test_a_restarted_broker_is_reached_again(tmp_path):
    fleet = new_fleet(tmp_path)
    changes = []
    back = threading.Event()

    def change(appid: str, up: bool) -> None:
        changes.append((appid, up))
        if up:
            back.set()

    with Broker(fleet) as broker:
        link = AppLink(fleet, AUTHORITY, (), lambda *_: None, change)
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
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.reconnect_delay_set(module._LEAST_DELAY_S, module._MOST_DELAY_S)
    waits = []
    for _ in range(6):
        client._thread_terminate = True  # without the wait itself
        client._reconnect_wait()
        waits.append(client._reconnect_delay)
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
