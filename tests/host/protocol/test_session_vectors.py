"""Check tests/vectors/session.json against its generator and against the application's side."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from warden_client.protocol import session
from warden_client.protocol.handshake import seal_wake
from warden_client.protocol.keyschedule import pair_keys, session_keys
from warden_client.protocol.session import (
    DeviceMark,
    Instant,
    Outcome,
    Received,
    Refused,
    Send,
    Session,
)
from warden_host.names import Address

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
sys.path.insert(0, str(VECTORS))

import make_session  # noqa: E402  (the path must be set first)

V: dict[str, Any] = json.loads((VECTORS / "session.json").read_text("utf-8"))
ADDRESS = Address(V["type"], V["device"], V["appid"])
NOW = Instant(V["unix_time"], 100.0)


def octets(name: str) -> bytes:
    return bytes.fromhex(V[name])


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> Session:
    """Draws the nonce of the vectors."""
    chance = SimpleNamespace(token_bytes=lambda count: octets("na")[:count])
    monkeypatch.setattr(session, "secrets", chance)
    return Session(ADDRESS, octets("k"), octets("policy_hash"), DeviceMark(), lambda fact: None)


def outcome(outcomes: list[Outcome]) -> str:
    (one,) = outcomes
    if isinstance(one, Refused):
        return one.code
    return "received" if isinstance(one, Received) else type(one).__name__


def check(application: Session, cases: str) -> None:
    for case in V[cases]:
        got = outcome(application.receive(case["event"], bytes.fromhex(case["message"]), NOW))
        assert got == case["outcome"], case["name"]


def test_the_file_is_what_its_generator_writes() -> None:
    assert (VECTORS / "session.json").read_text("utf-8") == make_session.text()
    assert make_session.PAGE.read_text("utf-8") == make_session.page()
    described = set(make_session._TEXTS) | set(make_session._LISTS)
    assert set(V) - described == {
        *("type", "device", "appid", "boot", "connect", "vault_gen", "unix_time")
    }


def test_keys() -> None:
    pair = pair_keys(ADDRESS, octets("k"))
    assert (pair.hello, pair.welcome, pair.kid) == tuple(
        octets(name) for name in ("hello_key", "welcome_key", "kid")
    )
    keys = session_keys(ADDRESS, octets("k"), octets("hello"), octets("welcome"))
    for name in ("up_key", "up_iv", "down_key", "down_iv", "sid"):
        assert getattr(keys, name) == octets(name), name


def test_the_whole_session(application: Session) -> None:
    assert application.kid == octets("kid")
    assert seal_wake(ADDRESS, pair_keys(ADDRESS, octets("k")), octets("na")) == octets("wake")
    check(application, "host_before")
    assert application.receive("hello", octets("hello"), NOW) == [
        Send("welcome", octets("welcome"))
    ]
    check(application, "host_ready")
    ack, stood = application.receive("ready", octets("ready"), NOW)
    assert ack == Send("ack", octets("ack"))
    assert (stood.proof.boot, stood.proof.connect) == (V["boot"], V["connect"])
    body = {"on": 1, "why": "ä", "list": [None, True, -5, b"\0\xff"]}
    assert application.seal("set_relay", 9, body, 60, NOW) == octets("command")
    check(application, "host_after")


def test_the_reply(application: Session) -> None:
    application.receive("hello", octets("hello"), NOW)
    application.receive("ready", octets("ready"), NOW)
    assert application.receive("reply", octets("reply"), NOW) == [
        Received("reply", 9, {"ok": True, "result": 5})
    ]
