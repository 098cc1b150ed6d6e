"""Files with pins: what they say, who signed them, and what the commands refuse."""

import json
import os
import time

import pytest
from host_kit import DEVICE, new_fleet, refused
from warden_client.protocol import strictcbor
from warden_host.cli import main
from warden_host.devices import pins, rotation
from warden_host.fleet import pki
from warden_host.protocol import policy
from warden_host.release import signing_key
from warden_host.service import clock_guard
from warden_host.store.clock import Mark
from warden_host.store.store import Device, Store

PASSPHRASE = b"a passphrase"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    made = new_fleet(tmp_path_factory.mktemp("pins"))
    for name, kind in (("daily", "p256"), ("spare", "rsa")):
        signing_key.make(made, name, kind, PASSPHRASE)
    with Store(made.database) as store, store.transaction():
        store.add_device(Device(DEVICE, "relay", "UNIX", "sealed", policy.record()))
    return made


@pytest.fixture
def warden(fleet, tmp_path, capsys):
    secret = tmp_path / "passphrase"
    secret.write_bytes(PASSPHRASE)
    os.chmod(secret, 0o600)

    def run(*arguments):
        """Return the exit code, and the record or the error's code."""
        more = ("--passphrase-file", str(secret)) if arguments[1] == "export" else ()
        code = main.run(["--fleet", str(fleet.root), *arguments, *more, "--json"])
        said = capsys.readouterr()
        record = json.loads(said.out.splitlines()[-1])
        return code, record if code == 0 else record["error"]["code"]

    return run


def signed(fleet, name="daily", **more):
    key = signing_key.find(fleet, name)
    with Store(fleet.database) as store:
        return pins.sign(fleet, store, signing_key.open_private(fleet, key, PASSPHRASE), **more)


@pytest.mark.parametrize("name", ["daily", "spare"])
def test_what_a_file_says(fleet, name):
    data = signed(fleet, name, live_ends_s=3600)
    keys = signing_key.listed(fleet)
    found = pins.read(data, keys)
    live, backup = (pin.hex() for pin in pki.load_pins(fleet.keys))
    assert (found["signed_by"], found["cas"]) == (name, 1)
    assert [one["pin"] for one in found["pins"]] == [live, backup]
    assert found["pins"][0]["ends"] == pytest.approx(found["made"] + 3600, abs=1)
    assert found["pins"][1]["ends"] is None
    assert pins.read(data, [])["signed_by"] is None
    # A bit anywhere makes it no file of ours.
    for at in range(0, len(data), 7):
        bent = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            assert pins.read(bent, keys)["signed_by"] is None
        except pins.HostError as error:
            assert error.code == "pins-malformed"


@pytest.mark.parametrize("data", [b"", b"\x80", bytes(6000), strictcbor.encode([b"", b""])])
def test_no_file_with_pins(data):
    with refused("pins-malformed"):
        pins.read(data, [])


def test_a_strangers_file_of_another_form_is_none(fleet):
    keys = signing_key.listed(fleet)

    def file(made=1, end=b"", signature=b"s", protected=b"p", vendor=b"v"):
        trust = [[b"c"], [b"a" * 32 + end, b"b" * 32]]
        payload = strictcbor.encode(["warden pins", 1, vendor, made, trust])
        return strictcbor.encode([payload, strictcbor.encode([protected, {}, None, signature])])

    assert pins.read(file(), keys)["signed_by"] is None
    for bad in (
        {"made": 0},
        {"made": True},
        {"made": 1 << 40},
        {"end": b"\xff" * 8},  # no time that a clock could show
        {"end": bytes(7) + b"\x01\x01"},  # a byte more
        {"end": b"\x01"},
        {"signature": None},
        {"signature": 5},
        {"protected": {}},
        {"vendor": 2.5},
    ):
        with refused("pins-malformed"):
            pins.read(file(**bad), keys)


def test_the_commands(fleet, warden, tmp_path):
    file = tmp_path / "pins.cose"
    assert warden("pins", "export", str(file))[1] == "release-key"  # two could sign
    # A file made in the future would keep every later one out.
    with Store(fleet.database) as store:
        store.set_clock_mark(Mark(time.time() - clock_guard.AWAY_S - 60, 0.0, "an earlier start"))
        named = "--key", "daily"
        assert warden("pins", "export", str(file), *named)[1] == "clock-jumped"
        assert not file.exists()
        assert warden("pins", "export", str(file), *named, "--accept-clock")[0] == 0
        store.set_clock_mark(clock_guard.read().mark)
    code, shown = warden("pins", "export", str(file), "--key", "daily")
    assert (code, shown["signed_by"]) == (0, "daily")
    assert warden("pins", "show", str(file))[1] == shown
    assert warden("pins", "export", str(file), "--live-pin-ends", "5")[1] == "bad-argument"
    assert warden("pins", "show", str(tmp_path / "none"))[1] == "pins-malformed"
    # Of a device that is on no port, and was not made here.
    assert warden("pins", "apply", DEVICE, str(file))[1] == "not-applicable"
    root = fleet.simulated(DEVICE) / "root"
    root.mkdir(parents=True)
    assert warden("pins", "apply", DEVICE, str(file))[0] == 0
    assert (root / "pins.cose").read_bytes() == file.read_bytes()
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert warden("pins", "apply", DEVICE, str(file))[1] == "release-key"


def test_pins_of_another_fleet_with_the_same_key(fleet, warden, tmp_path, monkeypatch):
    file = tmp_path / "pins.cose"
    with monkeypatch.context() as other:
        other.setattr(Store, "vendor", lambda _: bytes(16))
        file.write_bytes(signed(fleet))
    assert warden("pins", "show", str(file))[1]["signed_by"] == "daily"
    assert warden("pins", "apply", DEVICE, str(file))[1] == "release-key"


def test_a_rotation_whose_live_pin_ends(fleet):
    with Store(fleet.database) as store:
        order = rotation.start_rotation(fleet, store, DEVICE, ("pins",), live_ends_s=600)
        live, backup = order.body["trust"][1]
        assert (live[:32], backup) == pki.load_pins(fleet.keys)
        assert int.from_bytes(live[32:], "big") == pytest.approx(time.time() + 600, abs=60)
        # Another moment is the same order, no end is another one.
        assert rotation._has(fleet, store, order, "pins", 900)
        assert not rotation._has(fleet, store, order, "pins", None)
        store.end_rotation(DEVICE)
        for seconds in (59, 366 * 86400):
            with refused("bad-argument"):
                rotation.start_rotation(fleet, store, DEVICE, ("pins",), None, seconds)
