"""Tokens of applications: what they allow, at the authority and at a real mosquitto; their end."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from broker_kit import Client
from host_kit import new_fleet, refused
from joserfc import jws
from joserfc.jwk import ECKey
from warden_host.broker.mosquitto.broker import Broker
from warden_host.devices import app_tokens, setup
from warden_host.fleet import pki
from warden_host.protocol import access_token
from warden_host.protocol.access_token import Scope
from warden_host.store.store import App, Store

READ = Scope(("lock",), True, ())
COMMAND = Scope(("lock",), False, ("get_relay",))
EVENT = "iot-2/type/lock/id/D1/evt/temperature/fmt/json"
ORDER = "iot-2/type/lock/id/D1/cmd/{}/fmt/json"


@pytest.fixture
def fleet(tmp_path):
    return new_fleet(tmp_path)


@pytest.fixture
def store(fleet):
    with Store(fleet.database) as opened:
        setup.add_app(fleet, opened, App("home", ("lock", "meter"), ("get_relay", "set_relay")))
        yield opened


def allowed(fleet, store, text: str, type_: str = "lock", command: str = "get_relay") -> str:
    key = app_tokens.verifying_key(fleet)
    return app_tokens.check_request(store, key, text, type_, command).appid


def forged(fleet, key: Any = None, **changes: Any) -> str:
    claims = {
        "iss": "warden",
        "aud": "warden",
        "sub": "home",
        "jti": "0" * 16,
        "exp": int(time.time()) + 60,
        "scope": "command:lock:get_relay",
    } | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return access_token.sign(key or pki.load_key(fleet.keys / app_tokens.KEY), claims)


def test_what_a_token_allows_at_the_authority(fleet, store):
    _, text = app_tokens.issue(fleet, store, "home", COMMAND, 1)
    assert allowed(fleet, store, text) == "home"
    for type_, command in (("meter", "get_relay"), ("lock", "set_relay"), ("lock", "get")):
        with refused("token-scope"):
            allowed(fleet, store, text, type_, command)
    _, reads = app_tokens.issue(fleet, store, "home", READ, 1)
    with refused("token-scope"):
        allowed(fleet, store, reads)
    claims = access_token.verify(app_tokens.verifying_key(fleet), reads)
    assert claims.may_read("lock") and not claims.may_read("meter")


def test_tokens_that_are_none(fleet, store):
    made, text = app_tokens.issue(fleet, store, "home", COMMAND, 1)
    head, body, signature = text.split(".")
    other = pki.new_key()
    # Well signed: deeper than what Python parses.
    signer = ECKey.import_key(pki.load_key(fleet.keys / app_tokens.KEY))
    deep = jws.serialize_compact({"alg": "ES256"}, b"[" * 5000, signer, ["ES256"])
    for bad in (
        "",
        "x",
        "x" * 9000,
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{forged(fleet).split('.')[1]}.{signature}",
        # {"alg": "none"}, and a key of somebody else.
        f"eyJhbGciOiJub25lIn0.{body}.",
        forged(fleet, other, jti=made.id),
        forged(fleet, jti=made.id, iss="another"),
        forged(fleet, jti=made.id, aud="another"),
        forged(fleet, jti=made.id, scope=None),
        forged(fleet, jti=made.id, exp=None),
        forged(fleet, jti=None),
        forged(fleet, sub=None),
        forged(fleet, jti=made.id, scope=["command:lock:get_relay"]),
        deep,
    ):
        with refused("token-invalid"):
            allowed(fleet, store, bad)
    with refused("token-expired"):
        allowed(fleet, store, forged(fleet, jti=made.id, exp=int(time.time()) - 10))
    # Well signed, and not on the list: of a backup, or of another application.
    for claims in ({}, {"jti": made.id, "sub": "garden"}):
        with refused("token-revoked"):
            allowed(fleet, store, forged(fleet, **claims))
    assert allowed(fleet, store, forged(fleet, jti=made.id)) == "home"


def test_a_revoked_token(fleet, store):
    made, text = app_tokens.issue(fleet, store, "home", COMMAND, 1)
    app_tokens.revoke(fleet, store, made.id)
    first = store.token(made.id).revoked
    with refused("token-revoked"):
        allowed(fleet, store, text)
    app_tokens.revoke(fleet, store, made.id)
    assert store.token(made.id).revoked == first
    with refused("token-unknown"):
        app_tokens.revoke(fleet, store, "nothing")


@pytest.mark.parametrize(
    ("appid", "scope", "days", "code"),
    [
        ("garden", READ, 1, "app-unknown"),
        ("home", Scope(("lock",), False, ()), 1, "bad-argument"),
        ("home", Scope(("door",), True, ()), 1, "bad-argument"),
        ("home", Scope(("lock",), True, ("open",)), 1, "bad-argument"),
        ("home", READ, 0, "bad-argument"),
        ("home", READ, 367, "bad-argument"),
    ],
)
def test_tokens_that_are_not_made(fleet, store, appid, scope, days, code):
    with refused(code):
        app_tokens.issue(fleet, store, appid, scope, days)
    assert store.tokens() == []


ORIGIN = "https://app.example"


def test_tokens_for_pages_are_for_the_api_and_no_broker(fleet, store):
    with refused("bad-argument"):
        app_tokens.issue(fleet, store, "home", replace(READ, origins=(ORIGIN,)), 1)
    with refused("bad-argument"):
        app_tokens.issue(fleet, store, "home", replace(READ, api=True), 1, for_rabbitmq=True)
    assert store.tokens() == []


@pytest.mark.parametrize(
    "origins",
    [
        tuple(f"https://a{number}.example" for number in range(access_token.MOST_ORIGINS + 1)),
        ("http://app.example",),
        ("https://app.example/",),
        ("https://App.example",),
        ("https://app.example:0",),
        ("https://*.example",),
        ("null",),
    ],
)
def test_origins_that_no_token_has(origins):
    with refused("bad-argument"):
        Scope(("lock",), True, (), True, origins)


def test_another_servers_token_allows_no_more_than_its_application_may_do(store):
    def check(appid: str, type_: str, command: str, *words: str) -> str:
        claims = access_token.Claims(appid, "1", time.time() + 60, frozenset(words))
        return app_tokens.check_foreign(store, claims, type_, command).appid

    assert check("home", "lock", "get_relay", "command:lock:get_relay") == "home"
    for type_, command, word in (
        ("lock", "set_relay", "command:lock:get_relay"),  # beyond the token
        ("lock", "open", "command:lock:open"),  # beyond the application
        ("door", "get_relay", "command:door:get_relay"),
    ):
        with refused("token-scope"):
            check("home", type_, command, word)
    with refused("app-unknown"):
        check("garden", "lock", "get_relay", "command:lock:get_relay")


def test_a_token_above_what_mosquitto_takes(fleet, store):
    commands = tuple(f"command_number_{number}" for number in range(32))
    setup.add_app(fleet, store, App("big", ("lock", "meter"), commands))
    with refused("bad-argument"):
        app_tokens.issue(fleet, store, "big", Scope(("lock", "meter"), True, commands), 1)


def test_a_token_above_what_anyone_takes(fleet, store, monkeypatch):
    """Of the API's tokens no log-in at a broker sets a narrower bound."""
    web = replace(COMMAND, api=True)
    _, text = app_tokens.issue(fleet, store, "home", web, 1)
    monkeypatch.setattr(access_token, "MAX_TOKEN", len(text) - 1)
    with refused("bad-argument"):
        app_tokens.issue(fleet, store, "home", web, 1)
    assert len(store.tokens()) == 1


def test_a_signed_token_of_any_size_is_not_looked_at(fleet, store):
    app_tokens.issue(fleet, store, "home", COMMAND, 1)  # which makes the key
    assert access_token.is_signed(app_tokens.verifying_key(fleet), forged(fleet, more="x" * 5000))
    with refused("token-invalid"):
        allowed(fleet, store, forged(fleet, more="x" * access_token.MAX_TOKEN))


def test_a_token_is_stored_nowhere(fleet, store):
    _, text = app_tokens.issue(fleet, store, "home", COMMAND, 1)
    for path in fleet.root.rglob("*"):
        if path.is_file():
            assert text.split(".")[2].encode() not in path.read_bytes()
    assert (fleet.keys / app_tokens.KEY).stat().st_mode & 0o077 == 0


def test_rights_at_the_broker(fleet, store):
    """Those of the scopes and no others, while the broker runs; a revocation drops the line."""
    with Broker(fleet):
        read, read_text = app_tokens.issue(fleet, store, "home", READ, 1)
        give, give_text = app_tokens.issue(fleet, store, "home", COMMAND, 1)
        reader = Client(fleet, f"t:home:{read.id}", f"t:home:{read.id}", read_text)
        giver = Client(fleet, f"t:home:{give.id}", f"t:home:{give.id}", give_text)
        authority = Client(
            fleet, "a:authority", "a:authority", fleet.app_password("authority").decode()
        )
        device = "iot-2/type/lock/id/D1/cmd/#"
        assert [one.answer for one in (reader, giver, authority)] == ["Success"] * 3
        assert reader.subscribe("iot-2/type/lock/id/+/evt/#")
        assert not reader.subscribe("iot-2/type/meter/id/+/evt/#")
        assert not reader.subscribe(device) and not giver.subscribe(device)
        assert not giver.subscribe("iot-2/type/lock/id/+/evt/#")
        # With a token of another, under another's name, or with a part of it: no log-in.
        for user, text in (
            (f"t:home:{read.id}", give_text),
            (f"t:home:{read.id}", read_text[:-1]),
            ("a:authority", read_text),
        ):
            assert Client(fleet, user, user, text).answer != "Success"

        app_tokens.revoke(fleet, store, read.id)
        assert reader.until(lambda: not reader.client.is_connected())
        again = Client(fleet, f"t:home:{read.id}", f"t:home:{read.id}", read_text)
        assert again.answer != "Success"
        assert giver.client.is_connected()

        # Its end.
        row = replace(store.token(give.id), expires=time.time() - 1)
        store.remove_token(give.id)
        with store.transaction():
            store.add_token(row)
        app_tokens.sweep(fleet, store, set())
        assert giver.until(lambda: not giver.client.is_connected())
        assert [one.id for one in store.tokens()] == [read.id]
        authority.close()


def test_publishing_by_a_token(fleet, store):
    from warden_host.broker import accounts
    from warden_host.broker.backend import open_registry

    with Broker(fleet):
        with open_registry(fleet) as registry:
            registry.put(accounts.device_account("lock", "D1", "secret"))
        device = Client(fleet, "d:lock:D1", "d:lock:D1", "secret")
        assert device.subscribe("iot-2/type/lock/id/D1/cmd/#")
        made, text = app_tokens.issue(fleet, store, "home", COMMAND, 1)
        giver = Client(fleet, f"t:home:{made.id}", f"t:home:{made.id}", text)
        giver.publish(ORDER.format("set_relay"), data=b"no")
        giver.publish(ORDER.format("get_relay"), data=b"yes")
        assert device.until(lambda: device.heard)
        assert [data for _, data in device.heard] == [b"yes"]


def test_a_stop_between_the_two_steps(fleet, store):
    """fleet.db says revoked, the account is still there: the next start removes it."""
    made, _ = app_tokens.issue(fleet, store, "home", READ, 1)
    store.revoke_token(made.id)
    registry = fleet.broker / "dynamic-security.json"
    assert made.id in registry.read_text()
    app_tokens.enforce(fleet)
    assert made.id not in registry.read_text()


def test_words_for_rabbitmq():
    words = access_token.rabbitmq_scopes(READ, "t:home:1")
    assert words == [
        "warden.read:*/amq.topic/iot-2.type.lock.id.*.evt.*",
        "warden.configure:*/mqtt-subscription-t:home:1qos*",
        "warden.write:*/mqtt-subscription-t:home:1qos*",
        "warden.read:*/mqtt-subscription-t:home:1qos*",
    ]
    assert json.dumps(words)
