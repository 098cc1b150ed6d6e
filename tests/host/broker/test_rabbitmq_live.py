"""Rights, limits and what connections sent, at a real RabbitMQ."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import rabbitmq_kit
import tomli_w
from broker_kit import Client
from host_kit import new_fleet
from process_kit import PATIENCE_S
from rabbitmq_kit import RabbitMQ
from warden_client import secretfile
from warden_host.broker.accounts import app_account, device_account, quarantine_account
from warden_host.broker.rabbitmq import management, traffic
from warden_host.devices import app_tokens
from warden_host.fleet import pki
from warden_host.fleet.fleet import CONFIG, Fleet
from warden_host.protocol import access_token

pytestmark = pytest.mark.skipif(not rabbitmq_kit.is_there(), reason=rabbitmq_kit.MISSING)

DEVICE, APP, BASE = "d:lock:D1", "a:home", "iot-2/type/lock/id/D1"
PASSWORDS = {DEVICE: b"of the device", APP: b"of the application"}


@dataclass
class Place:
    fleet: Fleet
    rabbit: RabbitMQ

    def client(self, user: str, client_id: str = "", password: str | bytes = b"") -> Client:
        secret: str = password or PASSWORDS[user]  # type: ignore[assignment]
        made = Client(self.fleet, client_id or user, user, secret)
        assert made.answer == "Success"
        return made

    def token(self) -> str:
        key = pki.load_key(self.fleet.keys / app_tokens.KEY)
        claims = {"iss": "warden", "aud": "warden", "sub": "x", "exp": int(time.time()) + 600}
        return access_token.sign(key, claims | {"scope": "warden.read:*/*/*"})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder: Path = tmp_path_factory.mktemp("rabbitmq")
    fleet = new_fleet(folder)
    public = folder / "token.pub"
    public.write_bytes(app_tokens.public_pem(fleet))
    port = fleet.settings.broker.port
    users = dict(PASSWORDS)
    with rabbitmq_kit.running(folder / "node", fleet.keys, public, users, port) as rabbit:
        table = {
            "management": f"http://127.0.0.1:{rabbit.management_port}",
            "user": rabbitmq_kit.ADMIN,
            "passwords_only": True,
        }
        (fleet.root / CONFIG).write_text(tomli_w.dumps(fleet.document | {"rabbitmq": table}))
        secretfile.write(fleet.keys / management.PASSWORD, rabbitmq_kit.PASSWORD.encode())
        yield Place(Fleet(fleet.root), rabbit)


def is_closed(client: Client) -> bool:
    return not client.client.is_connected()


def test_a_quarantine_narrows_what_a_device_publishes(place: Place) -> None:
    reader, device = place.client(APP), place.client(DEVICE)
    assert reader.subscribe("iot-2/type/lock/id/+/evt/#")
    assert device.subscribe(f"{BASE}/cmd/+/fmt/+")
    device.publish(f"{BASE}/evt/temperature/fmt/json", data=b"before")
    quarantine = quarantine_account("lock", "D1")

    def narrowed() -> bool:  # it is listed seconds after its log-in
        assert management.restrict(place.fleet, quarantine)
        return is_closed(device)

    assert not management.has_rights(place.fleet, quarantine)
    assert device.until(narrowed)
    assert management.has_rights(place.fleet, quarantine)
    device = place.client(DEVICE)
    assert device.subscribe(f"{BASE}/cmd/+/fmt/+")  # the filter of its firmware
    device.publish(f"{BASE}/evt/incident/fmt/cose", data=b"incident")
    reader.until(lambda: len(reader.heard) == 2)
    device.client.publish(f"{BASE}/evt/temperature/fmt/json", b"denied", 1)
    assert device.until(lambda: is_closed(device))
    for other in ("iot-2/type/lock/id/D2/cmd/#", f"{BASE}/evt/#", f"{BASE}/cmd/open/fmt/cose"):
        device = place.client(DEVICE)
        device.client.subscribe(other)
        assert device.until(lambda device=device: is_closed(device)), other
    # And all its rights again.
    assert management.restrict(place.fleet, device_account("lock", "D1", ""), close=False)
    device = place.client(DEVICE)
    device.publish(f"{BASE}/evt/temperature/fmt/json", data=b"after")
    reader.until(lambda: len(reader.heard) == 3)
    assert [data for _, data in reader.heard] == [b"before", b"incident", b"after"]


def test_an_application_s_rights_in_rabbitmq_s_words(place: Place) -> None:
    account = app_account("home", ("lock",), "")
    assert not management.has_rights(place.fleet, account)  # it has none of its own
    assert management.restrict(place.fleet, account, close=False)
    app = place.client(APP)
    for filter_ in ("iot-2/type/lock/id/+/evt/#", "iot-2/type/lock/id/D1/evt/alarm/fmt/cose"):
        assert app.subscribe(filter_)
    app.publish(f"{BASE}/cmd/open/fmt/cose")
    assert not is_closed(app)
    for filter_ in ("iot-2/type/relay/id/+/evt/#", "iot-2/type/+/id/+/evt/#", f"{BASE}/cmd/#"):
        app = place.client(APP)
        app.client.subscribe(filter_)
        assert app.until(lambda app=app: is_closed(app)), filter_
    app = place.client(APP)
    app.client.publish("iot-2/type/relay/id/D1/cmd/open/fmt/cose", b"x", 1)
    assert app.until(lambda: is_closed(app))


def test_who_is_no_user_is_closed_by_its_client_id(place: Place) -> None:
    """Neither a limit nor rights are there for it; RabbitMQ answers 400 and 500 for these."""
    name = "o:garden:bed"
    one, other = (place.client("any", name + end, place.token()) for end in ("", "2"))

    def refused() -> bool:
        management.refuse(place.fleet, name)
        return is_closed(one)

    assert one.until(refused)
    other.until(lambda: False, 0.2)
    assert not is_closed(other)
    management.admit(place.fleet, name)
    management.set_password(place.fleet, name, "x")
    assert not management.restrict(place.fleet, quarantine_account("lock", "D9"))
    assert management.has_rights(place.fleet, quarantine_account("lock", "D9"))


def test_a_users_password_is_replaced(place: Place) -> None:
    new = "n\u0101w \x01 password"
    management.set_password(place.fleet, DEVICE, new)
    assert place.client(DEVICE, password=new.encode()).answer == "Success"
    old = Client(place.fleet, DEVICE, DEVICE, PASSWORDS[DEVICE])  # type: ignore[arg-type]
    assert old.answer == "Bad user name or password"
    PASSWORDS[DEVICE] = new.encode()


def test_what_a_connection_sent_is_told(place: Place) -> None:
    app = place.client(APP)
    before: dict[str, int] = {}

    def sizes() -> dict[str, int]:
        return {one.name: one.size for one in traffic.received(place.fleet) if one.user == APP}

    assert app.until(lambda: before.update(sizes()) or bool(before))
    app.publish(f"{BASE}/cmd/open/fmt/cose", data=bytes(50_000))
    assert app.until(lambda: any(size >= 50_000 for size in sizes().values()), PATIENCE_S)
    assert {DEVICE, APP} <= traffic.proven_users(place.fleet)
    (name,) = (one for one, size in sizes().items() if size >= 50_000)
    traffic.close(place.fleet, name)
    assert app.until(lambda: is_closed(app))
