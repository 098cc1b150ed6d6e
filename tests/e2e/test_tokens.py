"""Devices with access tokens, against a real RabbitMQ and a real authorization server."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rabbitmq_kit
from broker_kit import Client
from fleet_kit import DEVICE, PATIENCE_S, TYPE, Board, World, wait_until
from rabbitmq_kit import RabbitMQ
from standalone_kit import Program
from warden_client import secretfile
from warden_host.broker.rabbitmq import management
from warden_host.devices import app_tokens, setup, token_terms
from warden_host.devices.token_terms import TokenTerms
from warden_host.engine.request import Request
from warden_host.fleet import pki
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY
from warden_host.protocol import access_token
from warden_host.protocol.access_token import Scope
from warden_host.store.store import App, Store

token_server_kit = pytest.importorskip("token_server_kit", reason="Authlib: run `make setup`")
pytestmark = pytest.mark.skipif(not rabbitmq_kit.is_there(), reason=rabbitmq_kit.MISSING)

SCOPE = (
    "warden.write:*/amq.topic/iot-2.type.{0}.id.{1}.evt.* "
    "warden.read:*/amq.topic/iot-2.type.{0}.id.{1}.cmd.* "
    "warden.configure:*/mqtt-subscription-d:{0}:{1}qos* "
    "warden.write:*/mqtt-subscription-d:{0}:{1}qos* "
    "warden.read:*/mqtt-subscription-d:{0}:{1}qos*"
).format(TYPE, DEVICE)
SECRET = "s3cret-of-a-device"
ANY_BYTES = bytes(range(256))


class Place:
    """A fleet whose broker is RabbitMQ, and the server of its tokens."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        config = self.world.fleet.root / "warden.toml"
        config.write_text(config.read_text() + '\n[connection.type.relay]\nauth = "token"\n')
        self.world.fleet = Fleet(self.world.fleet.root)
        self.key: pki.Key
        self.rabbit: RabbitMQ
        self.tokens: Any

    def provision(self, **changes: object) -> Path:
        terms = TokenTerms(self.tokens.url, DEVICE, SECRET.encode())
        limits = {"backoff_min_ms": 100, "backoff_max_ms": 1000}
        return self.world.provision(token=terms, again=True, limits=limits, **changes)

    def connections(self) -> list[str]:
        found = self.rabbit.api("connections")
        return [one["name"] for one in found if one.get("user") == "token" or DEVICE in str(one)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, umqtt_path: Path) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("rabbitmq")
    made = Place(folder)
    keys = made.world.fleet.keys
    public = folder / "token.pub"
    # One key for both: applications' tokens are signed by the fleet itself.
    public.write_bytes(app_tokens.public_pem(made.world.fleet))
    made.key = pki.load_key(keys / app_tokens.KEY)
    users = {f"a:{AUTHORITY}": made.world.fleet.app_password(AUTHORITY), "porch": ANY_BYTES}
    leaf = pki.load_ca(keys).issue(("127.0.0.1",), key=pki.load_key(keys / "server.key"))
    with (
        rabbitmq_kit.running(folder / "node", keys, public, users, made.world.port) as made.rabbit,
        token_server_kit.running(made.key, leaf, folder) as made.tokens,
    ):
        made.tokens.add(DEVICE, SECRET, SCOPE)
        made.world.start_authority()
        try:
            yield made
        finally:
            made.world.stop_authority()


def test_a_device_logs_in_with_a_token(place: Place) -> None:
    home = place.provision()
    place.tokens.life = 3600
    place.tokens.made.clear()
    with Board(home) as board:
        board.wait_line("log token")
        board.wait_line("log session-stands")
        assert place.world.command("set_relay", on=1) == {"on": 1}
        # Kept sealed: after a power cut it logs in without the token server.
        wait_until(lambda: bool(list((home / "root").rglob("token_now.*"))), "stored token")
        for path in (home / "root").rglob("token_*.*"):
            assert b"eyJ" not in path.read_bytes()
        place.tokens.down = True
        board.kill()
        board.start()
        board.wait_line("log session-stands")
        assert len(place.tokens.made) == 1
        place.tokens.down = False

        # New terms over the link, kept once they proved themselves.
        place.tokens.add("second", "another-s3cret", SCOPE)

        def ask(order: dict) -> dict:
            assert place.world.authority is not None
            request = Request(DEVICE, "token", order, app=AUTHORITY, timeout_s=PATIENCE_S)
            return place.world.authority.command(request)

        new = TokenTerms(place.tokens.url, "second", b"another-s3cret")
        token_terms.change(DEVICE, ask, new, print, PATIENCE_S)
        assert place.tokens.made[-1][0] == "second"
        bad = TokenTerms(place.tokens.url, "second", b"wrong")
        with pytest.raises(token_terms.HostError) as error:
            token_terms.change(DEVICE, ask, bad, print, PATIENCE_S)
        assert error.value.code == "token-unproved"
        assert place.world.command("set_relay", on=0) == {"on": 0}


def test_a_token_that_the_broker_refuses(place: Place) -> None:
    """It trusts another key: one new token, and no more of them while the broker stays at that."""
    place.tokens.add(DEVICE, SECRET, SCOPE)
    place.tokens.made.clear()
    trusted, place.tokens.key = place.tokens.key, pki.new_key()
    home = place.provision()
    with Board(home) as board:
        for _ in range(4):
            board.wait_line("log mqtt-refused")
        assert len(place.tokens.made) == 2
        # A secret that the token server does not know any more.
        place.tokens.add(DEVICE, "another", SCOPE)
        board.kill()
        board.start()
        board.wait_line("log token-refused")
        place.tokens.key = trusted
        place.tokens.add(DEVICE, SECRET, SCOPE)
        board.wait_line("log session-stands")


def test_a_renewal_by_order(place: Place) -> None:
    """The connection is made anew with the new token."""
    place.tokens.made.clear()
    home = place.provision()
    with Board(home) as board:
        board.wait_line("log session-stands")
        order = Request(DEVICE, "token", {"renew": True}, app=AUTHORITY, timeout_s=PATIENCE_S)
        assert place.world.authority is not None
        assert place.world.authority.command(order)["ok"] is True
        board.wait_line("log token")
        board.wait_line("log session-stands")
        assert len(place.tokens.made) == 2
        assert place.world.command("set_relay", on=1) == {"on": 1}


def test_any_byte_in_a_password(
    place: Place, repo: Path, umqtt_path: Path, micropython: str, tmp_path: Path
) -> None:
    """The standalone link at a broker that takes all 256 values, NUL among them."""
    keys = place.world.fleet.keys
    program = Program(repo, umqtt_path, micropython, tmp_path)
    try:
        for password, line in ((ANY_BYTES, "published"), (ANY_BYTES[:-1] + b"\0", "mqtt-refused")):
            shutil.rmtree(tmp_path / "vault", ignore_errors=True)
            (tmp_path / "root-key").unlink(missing_ok=True)
            program.provision(
                place.world.port, b"porch", password, [pki.ca_der(keys)], list(pki.load_pins(keys))
            )
            program.start()
            program.wait_line(line)
            program.kill()
    finally:
        program.kill()


def _check_refusal(made: Fleet) -> None:
    """A user of a password loses its connection and gets none, until it is admitted again."""

    def porch() -> Client:
        return Client(made, "porch", "porch", ANY_BYTES)

    one = porch()
    assert one.answer == "Success"

    def ended() -> bool:  # it is listed seconds after its log-in
        management.refuse(made, "porch")
        return not one.client.is_connected()

    assert one.until(ended)
    assert porch().answer != "Success"
    management.admit(made, "porch")
    assert porch().answer == "Success"


def test_an_application_s_token_at_rabbitmq(place: Place) -> None:
    """Its scopes are its rights there; a revocation closes its line, and `exp` its log-in."""
    made = place.world.fleet
    config = made.root / "warden.toml"
    before = config.read_text()
    config.write_text(
        before
        + f'\n[rabbitmq]\nmanagement = "http://127.0.0.1:{place.rabbit.management_port}"\n'
        + f'user = "{rabbitmq_kit.ADMIN}"\n'
    )
    secretfile.write(made.keys / "rabbitmq.password", rabbitmq_kit.PASSWORD.encode())
    with Store(made.database) as store:
        setup.add_app(made, store, App("home", (TYPE,), ("set_relay",)))
        with_table = Fleet(made.root)
        scope = Scope((TYPE,), True, ())
        token, text = app_tokens.issue(with_table, store, "home", scope, 1, for_rabbitmq=True)
        user = f"t:home:{token.id}"
        reader = Client(made, user, "token", text)
        assert reader.answer == "Success"
        assert reader.subscribe(f"iot-2/type/{TYPE}/id/+/evt/#")
        # Another type, or a command: no right, and RabbitMQ closes the line.
        for topic in ("iot-2/type/lock/id/+/evt/#", f"iot-2/type/{TYPE}/id/+/cmd/#"):
            other = Client(made, user + "x", "token", text)
            other.client.subscribe(topic)
            assert other.until(lambda other=other: not other.client.is_connected())
        assert reader.client.is_connected()
        # Whose queues begin like those of the token.
        longer = Client(made, user + "qos", "somebody", text)
        assert longer.subscribe(f"iot-2/type/{TYPE}/id/+/evt/#")
        app_tokens.revoke(with_table, store, token.id)

        def closed(one: Client) -> bool:
            app_tokens.sweep(with_table, store, set())  # as `warden serve` does, once a second
            return not one.client.is_connected()

        for one in (reader, longer):
            assert one.until(lambda one=one: closed(one))
        # RabbitMQ itself takes it until its end; the next look closes that line, too.
        again = Client(made, user, "token", text)
        assert again.answer == "Success"

        def closed_again() -> bool:
            app_tokens.sweep(with_table, store, set())
            return not again.client.is_connected()

        assert again.until(closed_again)
    _check_refusal(with_table)
    config.write_text(before)
    now = int(time.time())
    key = pki.load_key(made.keys / app_tokens.KEY)
    claims = {"iss": "warden", "aud": "warden", "sub": "home", "scope": "warden.read:*/*/*"}
    for changes, answer in (
        ({"exp": now + 3600}, "Success"),
        ({"exp": now - 1}, "Bad user name or password"),
        ({"exp": now + 3600, "aud": "another"}, "Bad user name or password"),
    ):
        text = access_token.sign(key, claims | changes)
        assert Client(made, "one", "token", text).answer == answer
    stranger = access_token.sign(pki.new_key(), claims | {"exp": now + 3600})
    assert Client(made, "one", "token", stranger).answer == "Bad user name or password"
