"""A device is provisioned anew while an authority runs that is not told of it."""

from dataclasses import replace

from engine_kit import POLICY, SEALED
from host_kit import PeerDevice
from warden_host.protocol import policy

NEW = b"n" * 32


def provision_anew(stage) -> PeerDevice:
    """Return the device with its new key; the engine is not told."""
    fresh = tuple(replace(pair, k=NEW) for pair in SEALED.pairs)
    with stage.store.transaction():
        stage.store.add_device(replace(SEALED, pairs=fresh))
    return PeerDevice(NEW, policy.policy_hash(POLICY))


def test_its_second_hello_is_answered(stage, peer):
    stage.handshake(peer)
    anew = provision_anew(stage)
    stage.receive("hello", anew.hello())
    assert "wrong-application" not in stage.codes()
    stage.handshake(anew)


def test_a_strangers_hello_ends_no_session(stage, peer):
    stage.handshake(peer)
    stage.receive("hello", PeerDevice(NEW, policy.policy_hash(POLICY)).hello())
    assert stage.codes()[-1] == "wrong-application"
    stage.receive("temperature", peer.seal("temperature", [1, None, {"c": 20}]))
    assert stage.news[-1].kind == "event"


def test_only_a_hello_makes_it_look(stage, peer):
    """Once a second at most, as incidents are kept: a flood makes no more."""
    stage.handshake(peer)
    anew = provision_anew(stage)
    looks = []
    find = stage.store.find
    stage.store.find = lambda device: (looks.append(device), find(SEALED.device))[1]
    other = PeerDevice(b"x" * 32, policy.policy_hash(POLICY))
    stage.engine.unload(SEALED.device)
    for _ in range(20):
        stage.receive("hello", other.hello())
    assert looks.count(SEALED.device) <= 2
    stage.handshake(anew)
