"""What a device could not keep, or a certificate could not be renewed for, is refused."""

import dataclasses
from types import SimpleNamespace

import pytest
from cli_kit import fails
from host_kit import refused
from warden_host.cli import main
from warden_host.devices import bundle, renewal
from warden_host.otp import enrol
from warden_host.protocol import policy
from warden_host.store.store import Device, Pair

KEY = bytes(32)
PINS = [bytes(32), bytes(31) + b"1"]


def device(mode: str = "sealed", record: bytes = policy.record(), *apps: str, count: int = 0):
    commands = tuple(f"c{number}" for number in range(count))
    pairs = tuple(Pair(appid, KEY, KEY, commands) for appid in apps or ("authority",))
    return Device("porch", "lock", "RPI_PICO_W", mode, record, pairs=pairs)


def build(made: Device, authorities: list[bytes], pins: list[bytes]) -> bytes:
    return bundle.build(
        made,
        host="broker.example",
        port=8883,
        user="d:lock:porch",
        client_id="d:lock:porch",
        password="a password",
        authorities=authorities,
        pins=pins,
    )


MOST = [f"a{number}" for number in range(bundle.MAX_APPS - 1)]


def test_all_that_a_device_keeps_is_built():
    made = device("sealed", policy.record(), "authority", *MOST, count=bundle.MAX_COMMANDS)
    pins = [bytes(31) + bytes((number,)) for number in range(6)]
    assert build(made, [bytes(bundle.MAX_CA)] * 4, pins)


@pytest.mark.parametrize("apps", [("a",), ("authority", *MOST, "more")])
def test_applications_out_of_bounds(apps):
    with refused("bad-argument"):
        build(device("sealed", policy.record(), *apps), [b"ca"], PINS)


def test_too_many_commands():
    with refused("bad-argument"):
        build(device(count=bundle.MAX_COMMANDS + 1), [b"ca"], PINS)


@pytest.mark.parametrize("authorities", [[], [b"ca"] * 5, [bytes(bundle.MAX_CA + 1)]])
def test_certificates_out_of_bounds(authorities):
    with refused("bad-argument"):
        build(device(), authorities, PINS)


SEVEN = [bytes(31) + bytes((number,)) for number in range(7)]


@pytest.mark.parametrize("pins", [PINS[:1], PINS[:1] * 2, PINS + PINS[:1], SEVEN])
def test_pins_out_of_bounds(pins):
    with refused("bad-argument"):
        build(device(), [b"ca"], pins)


BY_CERTIFICATE = policy.record(auth="certificate")


def test_renewals_that_the_link_can_not_carry():
    renewal.check(device("sealed", BY_CERTIFICATE))
    with refused("not-applicable") as error:
        renewal.check(device())
    assert "has no certificate" in str(error)
    with refused("not-applicable") as error:
        renewal.check(device("plain", BY_CERTIFICATE))
    assert "is plain" in str(error)
    ended = dataclasses.replace(device("sealed", BY_CERTIFICATE), ending=SimpleNamespace())
    with refused("revoked"):
        renewal.check(ended)


def test_codes_of_the_authority_have_no_secret():
    with refused("bad-argument"):
        enrol.new("porch", "authority", 6, duress=False)


def test_applications_of_another_type(folder, capsys):
    add = ["app", "add", "home", "--type", "lock", "--command", "set_relay"]
    assert main.run(add) == 0
    for appid, code in (("home", "bad-argument"), ("other", "app-unknown")):
        fails(capsys, code, "provision", "D1", "--type", "fan", "--sim", "--app", appid)
