"""A certificate and an access token together at a real RabbitMQ, and a certificate alone.

For a device that has both, it takes neither alone.
"""

import socket
import ssl
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rabbitmq_kit
from fleet_kit import DEVICE, PATIENCE_S, TYPE, Board, World, wait_until, with_certificates
from rabbitmq_kit import RabbitMQ
from warden_host.broker import connection
from warden_host.devices import app_tokens
from warden_host.devices.token_terms import TokenTerms
from warden_host.fleet import pki
from warden_host.names import AUTHORITY

token_server_kit = pytest.importorskip("token_server_kit", reason="Authlib: run `make setup`")
pytestmark = pytest.mark.skipif(not rabbitmq_kit.is_there(), reason=rabbitmq_kit.MISSING)

SECRET = "s3cret-of-a-device"
SCOPE = (
    "warden.write:*/amq.topic/iot-2.type.{0}.id.{1}.evt.* "
    "warden.read:*/amq.topic/iot-2.type.{0}.id.{1}.cmd.* "
    "warden.configure:*/mqtt-subscription-d:{0}:{1}qos* "
    "warden.write:*/mqtt-subscription-d:{0}:{1}qos* "
    "warden.read:*/mqtt-subscription-d:{0}:{1}qos*"
).format(TYPE, DEVICE)
# docs/brokers.md names these lines.
DEMANDED = """
ssl_options.cacertfile = /etc/warden/devices-root.crt
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_options.depth = 2
mqtt.ssl_cert_login = true
ssl_cert_login_from = common_name
"""
ALONE = "D2"  # a device that has nothing but its certificate


class Place:
    """A fleet whose broker is that RabbitMQ, and the server of its tokens."""

    rabbit: RabbitMQ
    tokens: Any

    def __init__(self, folder: Path) -> None:
        self.world = with_certificates(
            World(folder), "certificate-and-token", **{ALONE: "certificate"}
        )

    def provision(self) -> Path:
        terms = TokenTerms(self.tokens.url, DEVICE, SECRET.encode())
        limits = {"backoff_min_ms": 100, "backoff_max_ms": 1000}
        return self.world.provision(token=terms, again=True, limits=limits)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, umqtt_path: Path) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("both")
    made = Place(folder)
    keys = made.world.fleet.keys
    public = folder / "token.pub"
    public.write_bytes(app_tokens.public_pem(made.world.fleet))
    key = pki.load_key(keys / app_tokens.KEY)
    users = {f"a:{AUTHORITY}": made.world.fleet.app_password(AUTHORITY)}
    leaf = pki.load_ca(keys).issue(("127.0.0.1",), key=pki.load_key(keys / "server.key"))
    terms = connection.load(made.world.fleet)
    more = DEMANDED + f"mqtt.listeners.ssl.2 = 127.0.0.1:{terms.both_port}\n"
    more += f"mqtt.listeners.ssl.3 = 127.0.0.1:{terms.certificate_port}\n"
    with (
        rabbitmq_kit.running(
            folder / "node", keys, public, users, made.world.port, more
        ) as made.rabbit,
        token_server_kit.running(key, leaf, folder) as made.tokens,
    ):
        made.tokens.add(DEVICE, SECRET, SCOPE)
        made.world.start_authority()  # with its own certificate
        try:
            yield made
        finally:
            made.world.stop_authority()


def test_both_are_needed(place: Place) -> None:
    home = place.provision()
    with Board(home) as board:
        board.wait_line("log token")
        board.wait_line("log session-stands")
        assert place.world.command("set_relay", on=1) == {"on": 1}
        # The certificate with a token of another issuer.
        board.kill()
        trusted, place.tokens.key = place.tokens.key, pki.new_key()
        home = place.provision()
        board.start()
        board.wait_line("log mqtt-refused")
        place.tokens.key = trusted


def test_a_certificate_alone(place: Place) -> None:
    """The certificate's name is the user's, who has no password; topics are the user's own."""
    limits = {"backoff_min_ms": 100, "backoff_max_ms": 1000}
    home = place.world.provision(ALONE, limits=limits)
    user, base = f"d:{TYPE}:{ALONE}", rf"^iot-2\.type\.{TYPE}\.id\.{ALONE}\."
    quoted = user.replace(":", "%3A")
    rabbit = place.rabbit
    with Board(home) as board:
        # Nobody has that name at the broker yet.
        board.wait_line("log mqtt-refused")
        rabbit.api(f"users/{quoted}", "PUT", {"password_hash": "", "tags": ""})
        queue = rf"^mqtt-subscription-{user}qos[01]$"
        rights = {
            "configure": queue,
            "write": rf"{queue}|^amq\.topic$",
            "read": f"{queue}|^amq.topic$",
        }
        rabbit.api(f"permissions/%2F/{quoted}", "PUT", rights)
        topics = {"exchange": "amq.topic", "write": rf"{base}evt\..*", "read": rf"{base}cmd\..*"}
        rabbit.api(f"topic-permissions/%2F/{quoted}", "PUT", topics)
        board.wait_line("log session-stands")
        assert place.world.command("set_relay", ALONE, on=1) == {"on": 1}
        # Cut off: the user goes, and its line.
        rabbit.api(f"users/{quoted}", "DELETE")
        before = len(board.lines.all())

        def is_refused() -> bool:
            for one in rabbit.api("connections"):
                if one.get("user") == user:
                    name = urllib.parse.quote(one["name"], safe="")
                    rabbit.api(f"connections/{name}", "DELETE")
            since = board.lines.all()[before:]
            return any(line.startswith("log mqtt-refused") for line in since)

        wait_until(is_refused, "the end of its line")


def test_a_token_without_a_certificate(place: Place) -> None:
    context = ssl.create_default_context(cafile=str(place.world.fleet.keys / "ca.crt"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    port = connection.load(place.world.fleet).both_port
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE_S) as raw,
        pytest.raises(OSError),
    ):
        context.wrap_socket(raw, server_hostname="127.0.0.1")
