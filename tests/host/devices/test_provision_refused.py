"""What `provision` refuses before it hands anything over, and what the look before it refuses."""

from collections.abc import Iterator

import pytest
from host_kit import new_fleet
from warden_host.broker.mosquitto import dynsec
from warden_host.devices import provision, rooms, setup
from warden_host.devices.token_terms import TokenTerms
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.store.store import App, Device, Store

TERMS = TokenTerms("https://id.example/token", "D1", b"a secret")
NO_TLS = "[connection]\nmessages_readable_on_the_network = true\nbare_port = 0\ntls = false\n"


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return new_fleet(tmp_path)


@pytest.fixture
def store(fleet) -> Iterator[Store]:
    with Store(fleet.database) as opened:
        setup.add_app(fleet, opened, App("home", ("lock",), ("set_relay",)))
        rooms.add(fleet, opened, "weather", ("mast",))
        opened.add_device(Device("D9", "relay", "UNIX", "sealed", policy.record()))
        yield opened


def set_up(fleet: Fleet, text: str) -> Fleet:
    """Return the fleet with this at the end of its warden.toml."""
    with (fleet.root / "warden.toml").open("a") as file:
        file.write(text)
    return Fleet(fleet.root)


CASES = {
    "a device's name": ("bad-name", "", {"device": "D/1"}),
    "a type's name": ("bad-name", "", {"type": "a type"}),
    "a device that is there": ("device-exists", "", {"device": "D9"}),
    "a room": ("bad-argument", "", {"type": "weather"}),
    "a device in a room": ("bad-argument", "", {"device": "mast"}),
    "an unknown board": ("bad-argument", "", {"board": "NOWHERE"}),
    "no network": ("no-network", "", {"board": "RPI_PICO_W"}),
    "no keypad": ("bad-argument", "", {"board": "ESP32_GENERIC", "otp": policy.otp()}),
    "no secret for codes": ("not-enrolled", "", {"otp": policy.otp(source="totp")}),
    "no such application": ("app-unknown", "", {"apps": ("garden",)}),
    "an application of other types": ("bad-argument", "", {"apps": ("home",)}),
    "a word of the authority": ("reserved-command", "", {"commands": ("wipe",)}),
    "no token server": ("bad-argument", '[connection]\nauth = "token"\n', {}),
    "no log-in by tokens": ("bad-argument", "", {"token": TERMS}),
    "plain without TLS": ("bad-argument", NO_TLS, {"plain": True}),
}

OF_NEW = ("a device that is there", "no secret for codes")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", ["look", "look at what may be there", "provision"])
def test_an_order_that_is_refused(case, way, fleet, store):
    if way == "look at what may be there" and case in OF_NEW:
        provision.check_order(fleet, store, provision.Order("D9", "relay"), is_new=False)
        return
    code, settings, changes = CASES[case]
    if settings:
        fleet = set_up(fleet, settings)
    order = provision.Order(**({"device": "D1", "type": "relay"} | changes))
    before = dynsec.load(fleet.broker), store.names()
    sent = []
    with pytest.raises(HostError) as caught:
        if way == "provision":
            provision.provision_board(fleet, store, order, lambda *secrets: sent.append(secrets))
        else:
            provision.check_order(fleet, store, order, is_new=way == "look")
    assert caught.value.code == code, caught.value
    assert sent == []
    assert (dynsec.load(fleet.broker), store.names()) == before


@pytest.mark.parametrize("look", [True, False], ids=["look", "provision"])
def test_a_server_whose_certificate_has_another_name(look, fleet, store):
    """A device would be given an address at which it refuses the broker."""
    settings = fleet.root / "warden.toml"
    settings.write_text(settings.read_text().replace('"127.0.0.1"', '"192.0.2.1"', 1))
    order = provision.Order("D1", "relay")
    sent = []
    with pytest.raises(HostError) as caught:
        if look:
            provision.check_order(Fleet(fleet.root), store, order)
        else:
            provision.provision_board(
                Fleet(fleet.root), store, order, lambda *secrets: sent.append(secrets)
            )
    assert caught.value.code == "certificate-name"
    assert sent == []


def test_an_order_that_is_taken(fleet, store):
    order = provision.Order("D1", "lock", apps=("home", "home"), commands=("report",))
    provision.check_order(fleet, store, order)
    sent = []
    made = provision.provision_board(fleet, store, order, lambda *secrets: sent.append(secrets))
    assert len(sent) == 1
    assert [pair.appid for pair in made.pairs] == ["authority", "home"]
