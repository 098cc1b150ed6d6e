"""A copy of a device is named as one; a device that reconnects, or was restored, is none."""

import pytest
from engine_kit import SEALED, Stage
from host_kit import DEVICE, PeerDevice
from warden_host.engine import clones
from warden_host.protocol import policy


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.store.close()


def device(boot: int = 1) -> PeerDevice:
    made = PeerDevice(b"a" * 32, policy.policy_hash(SEALED.policy))
    made.boot = boot
    return made


def connect(stage: Stage, peer: PeerDevice, answers: bool = True) -> bool:
    """Connect as the firmware does, which answers a wake by a new hello; return whether it is up.

    answers: whether it is there to answer.
    """
    stage.sent.clear()
    stage.receive("hello", peer.hello())
    if answers:
        for _, where, data in list(stage.sent):
            if where.verb == "wake":
                stage.receive("hello", peer.hello(wake=peer.wake_nonce(data)))
    welcomes = [data for _, where, data in stage.sent if where.verb == "welcome"]
    if welcomes:
        peer.take_welcome(welcomes[-1])
        stage.receive("ready", peer.ready())
    stage.pass_time(20)
    return bool(welcomes)


def test_two_devices_of_one_identity_are_a_clone(stage):
    original, copy = device(5), device(4)
    for _ in range(clones.ENOUGH):
        assert connect(stage, original)
        assert clones.CODE not in stage.codes()
        assert not connect(stage, copy)
    assert connect(stage, original)
    assert clones.CODE in stage.codes()
    assert clones.CODE in {one.code for one in stage.store.incidents(DEVICE)}


def test_addresses_by_turns_say_it_sooner(stage):
    asked = []
    stage.engine.clones.changed_place = lambda name, since: asked.append((name, since)) or True
    original, copy = device(5), device(4)
    connect(stage, original)
    for _ in range(2):
        assert clones.CODE not in stage.codes()
        connect(stage, copy)
        connect(stage, original)
    assert clones.CODE in stage.codes()
    assert [name for name, _ in asked] == [DEVICE, DEVICE]


def test_copies_that_start_alike_are_a_clone_too(stage):
    first, second = device(5), device(5)
    for _ in range(12):
        connect(stage, first)
        connect(stage, second)
    assert clones.CODE in stage.codes()


def test_a_device_that_reconnects_and_restarts_is_none(stage):
    peer = device()
    for number in range(30):
        assert connect(stage, peer)
        if number % 3 == 0:
            peer.boot, peer.connect = peer.boot + 1, -1
    assert clones.CODE not in stage.codes()


def test_a_restored_device_is_none(stage):
    peer = device(3)
    for _ in range(6):
        assert connect(stage, peer)
    for _ in range(2):  # restored, and once more
        peer = device(3)
        while not connect(stage, peer):
            pass
    assert clones.CODE not in stage.codes()


def test_a_device_that_repeats_its_hello_is_none(stage):
    peer = device()
    for _ in range(6):
        assert connect(stage, peer)
        stage.sent.clear()
        stage.receive("hello", peer.hello_bytes)  # it crossed our answer
        assert stage.sent == []
    assert clones.CODE not in stage.codes()


def test_recorded_hellos_are_no_clone(stage):
    """Who plays old hellos back has no keys to answer our nonce with."""
    peer = device()
    recorded = []
    for _ in range(8):
        assert connect(stage, peer)
        recorded.append(peer.hello_bytes)
    for data in recorded[:-2]:
        stage.receive("hello", data)
        stage.pass_time(20)
        assert connect(stage, peer)
    assert clones.CODE not in stage.codes()


def test_an_answer_that_is_held_back_on_its_way_is_no_clone(stage):
    """A gateway that holds the answer to a wake until a later hello was proven makes no copy."""
    peer = device()
    assert connect(stage, peer)
    recorded = peer.hello_bytes
    assert connect(stage, peer)
    for _ in range(clones.ENOUGH + 1):
        assert connect(stage, peer)
        stage.sent.clear()
        stage.receive("hello", recorded)
        ((_, _, wake),) = [one for one in stage.sent if one[1].verb == "wake"]
        held = peer.hello(wake=peer.wake_nonce(wake))
        assert connect(stage, peer)
        stage.receive("hello", held)
        stage.pass_time(20)
    assert connect(stage, peer)
    assert clones.CODE not in stage.codes()


def test_a_challenge_is_sent_once_in_a_while(stage):
    peer, copy = device(5), device(4)
    connect(stage, peer)
    stage.sent.clear()
    for _ in range(5):
        stage.receive("hello", copy.hello())
    assert [where.verb for _, where, _ in stage.sent] == ["wake"]
