"""A device in quarantine: a session, incidents, updates and new secrets, and nothing else."""

import time

import pytest
from engine_kit import SEALED, Stage, report, run
from host_kit import DEVICE, PeerDevice, refused
from warden_host.engine.request import Request
from warden_host.protocol import policy
from warden_host.store.reactions import QUARANTINE, Reaction


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    with made.store.transaction():
        made.store.set_reaction(DEVICE, Reaction(QUARANTINE, "tampered", "why", time.time()))
    yield made
    made.store.close()


@pytest.fixture
def peer(stage):
    made = PeerDevice(b"a" * 32, policy.policy_hash(SEALED.policy))
    stage.handshake(made)
    return made


def test_its_events_are_refused_and_its_incidents_are_kept(stage, peer):
    stage.receive("temperature", peer.seal("temperature", [0, None, {"c": 1}]))
    stage.engine.write_events()
    assert stage.store.events(DEVICE) == []
    assert "quarantined" in stage.codes()
    report(stage, peer, "replayed")
    assert "replayed" in {one.code for one in stage.store.incidents(DEVICE)}


@pytest.mark.parametrize("command", ["update", "rotate", "policy", "wipe", "token"])
def test_the_authority_can_update_it_and_give_it_new_secrets(stage, peer, command):
    assert run(stage, Request(DEVICE, command, {}, app="authority")) == []
    assert stage.last(command)


def test_no_other_command_reaches_it(stage, peer):
    for command, app in (
        ("set_relay", "authority"),
        ("unlock", "authority"),
        ("update", "lights"),
    ):
        stage.sent.clear()
        with refused("quarantined") as error:
            run(stage, Request(DEVICE, command, {}, app=app))
        assert "readmit" in str(error)
        assert stage.sent == []


def test_after_its_end_all_goes_on(stage, peer):
    with stage.store.transaction():
        stage.store.end_reaction(DEVICE)
    stage.engine.unload(DEVICE)
    peer.boot += 1
    stage.handshake(peer)
    stage.receive("temperature", peer.seal("temperature", [0, None, {"c": 1}]))
    stage.engine.write_events()
    assert len(stage.store.events(DEVICE)) == 1
