"""What a device with a session takes of the authority's memory."""

import tracemalloc
from dataclasses import replace

from engine_kit import POLICY, SEALED, K, pairs
from host_kit import PeerDevice, topic
from warden_host.protocol import policy

COUNT = 60
# Bytes a device and its entries in caches, which so few devices don't fill: about 7,400. A further
# cache with an entry for each topic of a device adds 700 or more.
MOST = 7_900


def receive(stage, name: str, event: str, data: bytes) -> None:
    stage.engine.on_message("authority", topic("evt", event, device=name), data, False)


def start_sessions(stage, names: list[str]) -> None:
    digest = policy.policy_hash(POLICY)
    for name in names:
        peer = PeerDevice(K["authority"], digest, "authority", name)
        receive(stage, name, "hello", peer.hello())
        peer.take_welcome(stage.last("welcome"))
        receive(stage, name, "ready", peer.ready())
        stage.sent.clear()
        stage.news.clear()


def test_what_a_device_with_a_session_takes(stage):
    names = [f"S{number}" for number in range(2 * COUNT)]
    for name in names:
        stage.store.add_device(replace(SEALED, device=name, pairs=pairs("authority")))
    start_sessions(stage, names[:COUNT])
    tracemalloc.start()
    start_sessions(stage, names[COUNT:])
    held = tracemalloc.get_traced_memory()[0] / COUNT
    tracemalloc.stop()
    assert held <= MOST
