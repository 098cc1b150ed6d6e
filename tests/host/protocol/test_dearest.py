"""Count the authority's work for the most expensive message: a short tests/fuzz/dearest.py."""

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from engine_kit import PLAIN, POLICY, K, Stage, pairs
from host_kit import PeerDevice
from warden_client import jsontext
from warden_client.protocol import strictcbor
from warden_host.protocol import policy

TESTS = Path(__file__).resolve().parents[2]
sys.path.append(str(TESTS / "fuzz"))

from dearest import BOUNDS, World, climb  # noqa: E402

ROUNDS = 40
# A list that announces 16,381 empty maps: what stopped a fleet.
MAPS = bytes.fromhex("993ffd") + b"\xa0" * 16381


@pytest.fixture(params=sorted(BOUNDS))
def world(tmp_path, request):
    made = World(tmp_path, request.param)
    yield made
    made.close()


def test_the_dearest_message_that_is_found(world):
    cost, _data = climb(world, random.Random(1), lambda number: number < ROUNDS)
    assert cost <= BOUNDS[world.kind]


def test_the_count_sees_work_where_it_is(world):
    """A message that is taken, and so read whole, costs more than one that breaks off."""
    assert world.cost(b"") < world.cost(world.seeds()[0]) < BOUNDS[world.kind]


def test_a_list_of_empty_maps_costs_a_few_heads(world):
    text = b'{"event":"x","deviceId":"D1","body":{"a":[' + b"{}," * 5400 + b"{}]}}"
    data = {"opened": b"\x83\x00\xf6\xa1\x61a" + MAPS[:16200], "plain": text}
    assert world.cost(data.get(world.kind, MAPS)) < 3_000
    codes = {"opened": "cbor-malformed", "plain": "bad-body", "hello": "mqtt-too-large"}
    assert world.stage.codes()[0] == codes.get(world.kind, "cose-malformed")


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def scanned(monkeypatch) -> list[bytes]:
    """Whatever is decoded as CBOR."""
    seen: list[bytes] = []
    scan = strictcbor.scan

    def watched(data: bytes, *rest: object) -> int:
        seen.append(data)
        return scan(data, *rest)

    monkeypatch.setattr(strictcbor, "scan", watched)
    return seen


def peer_of(stage: Stage, appid: str) -> PeerDevice:
    peer = PeerDevice(K[appid], policy.policy_hash(POLICY), appid)
    stage.handshake(peer, appid)
    return peer


def test_a_sealed_message_is_decoded_by_the_application_that_it_names(stage, scanned):
    for peer in [peer_of(stage, appid) for appid in K]:
        stage.news.clear()
        scanned.clear()
        data = peer.seal("x", [0, None, {"a": [{}] * 1000}])
        for appid in K:
            stage.receive("x", data, appid)
        assert [news.app for news in stage.news if news.kind == "event"] == [peer.names[-1]]
        assert sum(len(data) > 64 for data in scanned) == 1


def test_nothing_of_a_stranger_s_message_is_decoded_but_its_header(stage, scanned):
    peer = peer_of(stage, "authority")
    scanned.clear()
    forged = peer.seal("x", b"\xa0" * 16000)
    unknown = peer.seal("x", MAPS[:16000], headers={4: bytes(8)})
    unlike = peer.seal("x", MAPS[:16000], headers={4: bytes(7)})
    for data in (MAPS, forged[:-1] + b"\0", unknown, unlike):
        for appid in K:
            stage.receive("x", data, appid)
    assert stage.codes()[-3:] == ["cose-malformed", "tampered", "wrong-application"]
    assert 0 < max(map(len, scanned)) <= 64


def test_a_device_with_its_key_sends_no_more_items_than_are_read(stage):
    peer = peer_of(stage, "authority")
    stage.receive("x", peer.seal("x", [0, None, {"a": [{}] * 16100}]))
    assert stage.codes()[-1:] == ["cbor-limit"]


def test_a_plain_message_is_parsed_once(tmp_path, monkeypatch):
    stage = Stage(tmp_path, replace(PLAIN, pairs=pairs(*K)))
    parsed: list[int] = []
    parse = jsontext.parse_object

    def watched(data: bytes, *rest: object, **more: object) -> object:
        parsed.append(len(data))
        return parse(data, *rest, **more)

    monkeypatch.setattr(jsontext, "parse_object", watched)
    request = {
        "event": "server_uid_request",
        "deviceId": "D1",
        "appid": "lights",
        "req": "0f" * 16,
    }
    events = {
        "x": b'{"event":"x","deviceId":"D1","body":{"a":1}}',
        "server_uid_request": json.dumps(request).encode(),
        "y": b"[" * 16384,
    }
    for event, data in events.items():
        for appid in K:
            stage.receive(event, data, appid, "json")
    assert [news.name for news in stage.news if news.kind == "event"] == ["x"]
    answers = [(appid, where.verb) for appid, where, _ in stage.sent]
    assert answers == [("lights", "server_uid_response")]
    asked = len(events["server_uid_request"])  # each application answers for itself
    assert parsed == [len(events["x"]), asked, asked, 16384]
    stage.store.close()
