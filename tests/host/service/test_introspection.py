"""Tokens of another authorization server: Authlib's says whether they are active (RFC 7662)."""

import hashlib
import http.client
import json
import ssl
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
import tomli_w
from cryptography.hazmat.primitives import serialization
from host_kit import new_fleet, refused
from port_kit import free_ports
from requests_kit import Authority, send
from warden_client import secretfile
from warden_host.devices import setup
from warden_host.fleet import pki
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.service import introspection
from warden_host.service.introspection import Introspection
from warden_host.service.run import _Dispatcher
from warden_host.store.store import App, Device, Store

token_server_kit = pytest.importorskip("token_server_kit", reason="Authlib: run `make setup`")

# Authlib does not decode what RFC 6749 §2.3.1 encodes: no character of it needs that.
SECRET, WORD = "an-introspector-s-secret", "command:lock:set_relay"


class Place:
    """A fleet with the application home and the lock D1, and a server of tokens."""

    fleet: Fleet
    tokens: Any
    pin: str
    handler: _Dispatcher

    def configure(self, **changes: Any) -> None:
        document = {key: value for key, value in self.fleet.document.items()}
        table = {"url": self.tokens.url.replace("/token", "/introspect"), "client_id": "warden"}
        table |= {"pins": ["0" * 64, self.pin], "ca": "keys/ca.crt", "cache_s": 0}
        document["introspection"] = table | changes
        (self.fleet.root / "warden.toml").write_text(tomli_w.dumps(document))
        self.fleet = Fleet(self.fleet.root)
        self.handler.introspection = Introspection(self.fleet)

    def token(self, client: str, scope: str) -> str:
        """A token as an application gets it: by client credentials."""
        self.tokens.add(client, "its secret", scope)
        context = ssl.create_default_context(cafile=str(self.fleet.keys / "ca.crt"))
        connection = http.client.HTTPSConnection("127.0.0.1", self.tokens.port, context=context)
        fields = {"grant_type": "client_credentials", "scope": scope, "client_id": client}
        body = urllib.parse.urlencode(fields | {"client_secret": "its secret"})
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/oauth/token", body, form)
        text: str = json.loads(connection.getresponse().read())["access_token"]
        connection.close()
        return text


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    made = Place()
    made.fleet = new_fleet(tmp_path)
    keys = made.fleet.keys
    secretfile.write(keys / introspection.SECRET, SECRET.encode() + b"\n")
    leaf = pki.load_ca(keys).issue(("127.0.0.1",), key=pki.load_key(keys / "server.key"))
    spki = leaf.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    made.pin = hashlib.sha256(spki).hexdigest()
    with (
        Store(made.fleet.database) as store,
        token_server_kit.running(pki.new_key(), leaf, tmp_path) as made.tokens,
    ):
        setup.add_app(made.fleet, store, App("home", ("lock",), ("set_relay",)))
        with store.transaction():
            store.add_device(Device("D1", "lock", "UNIX", "sealed", policy.record()))
        made.tokens.add("warden", SECRET, "")
        made.handler = _Dispatcher()
        made.handler.authority, made.handler.fleet = Authority(store), made.fleet
        made.configure()
        yield made


def test_an_active_token_speaks_for_the_application_of_its_client(place: Place) -> None:
    text = place.token("home", WORD + " command:lock:open")
    assert send(place.handler, token=text, command="set_relay").app == "home"
    # Neither more than its scope, nor more than the application may do.
    for command in ("get_relay", "open"):
        with refused("token-scope"):
            send(place.handler, token=text, command=command)
    with refused("app-unknown"):
        send(place.handler, token=place.token("garden", WORD), command="set_relay")
    place.tokens.given[text].revoked = True
    with refused("token-revoked"):
        send(place.handler, token=text, command="set_relay")
    for stranger in ("no token at all", "x.y.z"):
        with refused("token-revoked"):
            send(place.handler, token=stranger, command="set_relay")
    with refused("token-invalid"):
        send(place.handler, token="not\nvisible", command="set_relay")


def test_whatever_is_no_answer_refuses(place: Place) -> None:
    text = place.token("home", WORD)
    place.tokens.down = True
    with refused("unreachable"):
        send(place.handler, token=text, command="set_relay")
    place.tokens.down = False
    # The client that asks: another secret, or one without the right.
    secretfile.write(place.fleet.keys / introspection.SECRET, b"another one")
    with refused("unreachable"):
        send(place.handler, token=text, command="set_relay")
    secretfile.write(place.fleet.keys / introspection.SECRET, SECRET.encode())
    place.tokens.reader = "somewhere else"
    with refused("token-revoked"):
        send(place.handler, token=text, command="set_relay")
    place.tokens.reader = "warden"
    before = place.tokens.asked
    # Another key, or another CA: the secret does not leave this machine.
    place.configure(pins=["1" * 64])
    with refused("unreachable"):
        send(place.handler, token=text, command="set_relay")
    other = place.fleet.root / "other.crt"
    other.write_bytes(pki.new_ca().pem())
    place.configure(ca="other.crt")
    with refused("unreachable"):
        send(place.handler, token=text, command="set_relay")
    assert place.tokens.asked == before


def test_an_answer_counts_for_some_seconds(place: Place, monkeypatch) -> None:
    text = place.token("home", WORD)
    place.configure(cache_s=5)
    now = [100.0]
    monkeypatch.setattr(introspection.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(introspection, "_WHOLE_S", 1e9)
    for _ in range(3):
        send(place.handler, token=text, command="set_relay")
    assert place.tokens.asked == 1
    place.tokens.given[text].revoked = True
    now[0] += 5
    for _ in range(2):
        with refused("token-revoked"):
            send(place.handler, token=text, command="set_relay")
    assert place.tokens.asked == 2
    # No more of them are kept than so many.
    monkeypatch.setattr(introspection, "_MOST_KEPT", 2)
    for name in ("one", "two", "three"):
        with refused("token-revoked"):
            send(place.handler, token=name, command="set_relay")
    assert len(place.handler.introspection._kept) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b'{"active": "true"}',
        b'{"active": 1}',
        b'{"active": true}',
        b'{"active": true, "client_id": 1, "scope": "", "exp": 9999999999}',
        b'{"active": true, "client_id": "home", "exp": 9999999999}',
        b'{"active": true, "client_id": "home", "scope": "", "exp": 9999999999, "jti": 1}',
        b'{"active": true, "client_id": "home", "scope": "", "exp": "1"}',
        b'{"active": true, "client_id": "home", "scope": "command:lock:set_relay", "exp": 1}',
        b"[" * 9000,
        b" " * 20000,
    ],
)
def test_hostile_answers(place: Place, monkeypatch, answer: bytes) -> None:
    def post(*_: Any) -> tuple[int, bytes]:
        return 200, answer

    monkeypatch.setattr(Introspection, "_post", post)
    with pytest.raises(introspection.HostError) as error:
        place.handler.introspection.claims("a token")
    assert error.value.code in ("unreachable", "token-invalid", "token-expired")


def test_an_answer_with_another_status_counts_for_nothing(place: Place, monkeypatch) -> None:
    answer = b'{"active": true, "client_id": "home", "scope": "", "exp": 9999999999}'
    for status in (200, 500):
        monkeypatch.setattr(Introspection, "_post", lambda *_, status=status: (status, answer))
        if status == 200:
            assert place.handler.introspection.claims("a token").appid == "home"
        else:
            with refused("unreachable"):
                place.handler.introspection.claims("a token")


def test_an_endpoint_that_is_not_there(place: Place) -> None:
    place.configure(url=f"https://127.0.0.1:{free_ports(1)[0]}/introspect")
    with refused("unreachable"):
        place.handler.introspection.claims("a token")


def test_a_key_that_can_not_be_read_is_no_pin(place: Place) -> None:
    for certificate in (None, b"", b"\x30\x00"):
        with refused("unreachable"):
            place.handler.introspection._check_pin(certificate)


def test_texts_that_are_no_token_are_not_asked_about(place: Place) -> None:
    before = place.tokens.asked
    for text in ("", "x" * (introspection.MAX_TOKEN + 1), "t\u00f6ken", "to\nken"):
        with refused("token-invalid"):
            place.handler.introspection.claims(text)
    assert place.tokens.asked == before


def test_made_up_tokens_are_asked_about_so_often(place: Place, monkeypatch) -> None:
    asked: list[bytes] = []

    def post(_: Any, body: bytes) -> tuple[int, bytes]:
        asked.append(body)
        return 200, b'{"active": false}'

    monkeypatch.setattr(Introspection, "_post", post)
    monkeypatch.setattr(introspection.time, "monotonic", lambda: 100.0)
    place.configure(cache_s=60)
    for number in range(50):
        with refused("token-revoked"):
            place.handler.introspection.claims(f"made up {number}")
    with refused("unreachable"):
        place.handler.introspection.claims("one more")
    with refused("token-revoked"):  # an answer that is kept counts on
        place.handler.introspection.claims("made up 0")
    assert len(asked) == 50


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "http://127.0.0.1/introspect"},
        {"url": "https://user@host/introspect"},
        {"url": "https://host"},
        {"url": "https://host/introspect#a"},
        {"url": "https://host/introspect@b"},
        {"url": 5},
        {"url": "https://host:65536/introspect"},
        {"url": "https://a..b/introspect"},
        {"pins": []},
        {"pins": ["ab"]},
        {"pins": "0" * 64},
        {"pins": 5},
        {"pins": [5]},
        {"cache_s": 61},
        {"cache_s": True},
        {"client_id": ""},
        {"client_id": "x" * 513},
        {"clientid": "warden"},
    ],
)
def test_what_the_table_does_not_say(place: Place, changes: dict[str, Any]) -> None:
    with refused("config-malformed"):
        place.configure(**changes)


def test_the_secret_is_there_and_the_owner_s_alone(place: Place) -> None:
    path = place.fleet.keys / introspection.SECRET
    path.chmod(0o644)
    with refused("key-permissions"):
        place.configure()
    path.unlink()
    with refused("key-missing"):
        place.configure()
    secretfile.write(path, b"\xff")
    with refused("key-damaged"):
        place.configure()


def test_an_answer_that_is_too_long_is_not_parsed(place: Place, monkeypatch) -> None:
    token = place.token("home", WORD)
    assert place.handler.introspection.claims(token)
    monkeypatch.setattr(introspection, "_MAX_ANSWER", 16)
    with pytest.raises(introspection.HostError) as error:
        place.handler.introspection.claims(token)
    assert error.value.code == "unreachable"
    assert "too long" in error.value.text
