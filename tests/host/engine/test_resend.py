"""A command whose reply got lost is sent again, and what comes twice is no incident."""

import pytest
from engine_kit import POLICY, K, Stage, reply, run
from host_kit import DEVICE, PeerDevice
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.protocol import policy


class World:
    def __init__(self, folder) -> None:
        self.stage = Stage(folder)
        self.peer = PeerDevice(K["authority"], policy.policy_hash(POLICY))
        self.stage.handshake(self.peer)

    def command(self, seconds: float = 30.0, ttl_s: int = 30) -> list:
        request = Request(DEVICE, "set_relay", {"on": 1}, "authority", ttl_s, seconds)
        assert (request.ttl_s, request.timeout_s) == (ttl_s, seconds)
        return run(self.stage, request)

    def commands(self) -> list[bytes]:
        return [data for _, where, data in self.stage.sent if where.verb == "set_relay"]

    def number(self) -> int:
        return self.peer.open("set_relay", self.commands()[-1])[1][0]


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.stage.store.close()


def test_a_command_without_a_reply_is_sent_again_byte_for_byte(world):
    results = world.command()
    world.stage.pass_time(2.9)
    assert len(world.commands()) == 1
    world.stage.pass_time(0.2)
    assert len(world.commands()) == 2
    world.stage.pass_time(9)
    assert len(world.commands()) == 3
    assert len(set(world.commands())) == 1
    assert [one.kind for one in world.stage.news].count("command") == 1
    # All of the replies arrive after all: the first counts, a copy more than was sent does not.
    data = world.peer.seal("reply", [world.number(), None, {"ok": True, "result": 1}])
    for count in range(3):
        world.stage.receive("reply", data)
        assert results[0]["ok"] is True
        assert world.stage.codes() == [], count
    world.stage.receive("reply", data)
    assert world.stage.codes() == ["replayed"]


def test_without_a_copy_sent_a_reply_that_comes_twice_is_a_replay(world):
    world.command()
    data = world.peer.seal("reply", [world.number(), None, {"ok": True, "result": 1}])
    for _ in range(2):
        world.stage.receive("reply", data)
    assert world.stage.codes() == ["replayed"]


def test_another_reply_is_no_copy(world):
    world.command()
    world.stage.pass_time(3.1)
    first = world.peer.seal("reply", [world.number(), None, {"ok": True, "result": 1}])
    world.stage.receive("reply", first)
    world.command()
    reply(world.stage, world.peer, world.number())
    world.stage.receive("reply", first)
    assert world.stage.codes() == ["replayed"]


def test_a_command_that_another_followed_is_not_sent_again(world):
    world.command()
    world.command()
    first, second = world.commands()
    world.stage.pass_time(3.1)
    assert world.commands() == [first, second, second]


@pytest.mark.parametrize(("seconds", "ttl_s"), [(2.0, 30), (30.0, 3)])
def test_none_is_sent_again_behind_its_time(world, seconds, ttl_s):
    results = world.command(seconds, ttl_s)
    world.stage.pass_time(3.1)
    world.stage.pass_time(30)
    assert len(world.commands()) == 1
    assert isinstance(results[0], HostError) and results[0].code == "timed-out"


def test_a_session_that_ended_gets_no_copy(world):
    world.command()
    old = world.commands()
    again = PeerDevice(K["authority"], policy.policy_hash(POLICY))
    again.connect = 5
    world.stage.handshake(again)
    world.stage.pass_time(3.1)
    assert world.commands() == old


def test_a_device_that_was_cut_off_meanwhile_gets_no_copy(world):
    world.command()
    world.stage.engine.unload(DEVICE)
    world.stage.pass_time(3.1)
    assert len(world.commands()) == 1


def test_a_reply_is_kept_only_while_its_copy_may_come(world):
    channel = world.stage.engine.state(DEVICE).sessions["authority"].channel
    world.command()
    reply(world.stage, world.peer, world.number())
    assert not channel.reply
    world.command()
    world.stage.pass_time(3.1)
    data = world.peer.seal("reply", [world.number(), None, {"ok": True, "result": 1}])
    world.stage.receive("reply", data)
    assert channel.reply == data
    world.stage.receive("reply", data)
    assert not channel.reply
    assert world.stage.codes() == []
