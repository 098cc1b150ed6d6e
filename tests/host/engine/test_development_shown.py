"""A device in development mode: its hello says so, and everybody who looks is told."""

import io
import sys

import pytest
from cli_kit import fails, said
from engine_kit import POLICY, K, Stage
from host_kit import PeerDevice
from session_kit import Pair
from warden_host import control_client
from warden_host.cli import main
from warden_host.protocol import policy


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.store.close()


def kinds(stage: Stage) -> list[str]:
    return [news.kind for news in stage.news]


def test_the_hello_tells(stage):
    peer = PeerDevice(K["authority"], policy.policy_hash(POLICY))
    stage.handshake(peer)
    assert not stage.engine.state(peer.device).development
    assert "development" not in kinds(stage)
    plain, peer.hello = peer.hello, lambda: plain(development=True)
    stage.handshake(peer)
    assert stage.engine.state(peer.device).development
    assert "development" in kinds(stage)
    peer.hello = plain
    stage.handshake(peer)
    assert not stage.engine.state(peer.device).development


@pytest.mark.parametrize("sign", [False, None, 1, 0, "true", []])
def test_another_sign_is_refused(sign):
    pair = Pair()
    assert pair.code("hello", pair.device.hello(development=sign)) == "bad-body"


def test_nothing_follows_the_sign():
    pair = Pair()
    assert pair.code("hello", pair.device.hello(development=True, more=True)) == "bad-body"


@pytest.fixture
def answered(monkeypatch):
    """What reached the control socket; each request gets its answer here."""
    requests = []

    def call(_path, request, _timeout=0):
        requests.append(request)
        if request["op"] == "online":
            return {"online": {"D1": ["authority"], "D2": ["authority"]}, "development": ["D1"]}
        return {"ok": True, "reply": {"ok": True, "result": {}}}

    monkeypatch.setattr(control_client, "call", call)
    return requests


def test_the_list_shows_it(folder, capsys, answered):
    for device, options in (("D1", ["--development"]), ("D2", [])):
        assert main.run(["provision", device, "--sim", *options]) == 0
    capsys.readouterr()
    assert main.run(["devices"]) == 0
    assert "development" in capsys.readouterr().out
    assert main.run(["devices", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ['"state": "development"' in line for line in lines] == [True, False]


def test_only_a_policy_that_allows_it(folder, capsys, answered):
    assert main.run(["provision", "D1", "--sim", "--development"]) == 0
    assert main.run(["provision", "D2", "--sim"]) == 0
    assert main.run(["provision", "D3", "--sim", "--plain", "--development"]) == 0
    capsys.readouterr()
    del answered[:]
    assert main.run(["develop", "D1", "--yes", "--json"]) == 0
    assert said(capsys) == {"ok": True, "device": "D1", "seconds": 3600}
    assert main.run(["develop", "D1", "--end", "--json"]) == 0
    assert said(capsys)["seconds"] == 0
    assert [request["seconds"] for request in answered] == [3600, 0]
    for device in ("D2", "D3"):
        fails(capsys, "not-applicable", "develop", device, "--yes")
    for seconds in ("59", "86401"):
        fails(capsys, "bad-argument", "develop", "D1", "--yes", "--seconds", seconds)
    fails(capsys, "bad-name", "develop", "D/1", "--yes")
    assert len(answered) == 2
    assert main.run(["develop", "D1", "--yes", "--seconds", "600"]) == 0
    assert "console open, for 600 seconds" in capsys.readouterr().out
    assert main.run(["develop", "D1", "--end", "--seconds", "5"]) == 0
    assert "console closed" in capsys.readouterr().out


def test_it_asks_first(folder, capsys, answered, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert main.run(["provision", "D1", "--sim", "--development"]) == 0
    del answered[:]
    assert main.run(["develop", "D1"]) == 130
    assert answered == []


def test_a_device_that_refuses(folder, capsys, monkeypatch):
    assert main.run(["provision", "D1", "--sim", "--development"]) == 0
    answer = {"ok": False, "reply": {"ok": False, "error": "not-allowed"}}
    monkeypatch.setattr(control_client, "call", lambda *_: answer)
    fails(capsys, "command-refused", "develop", "D1", "--yes")
