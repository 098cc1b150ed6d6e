"""The broker's tests under every mosquitto that Debian has, and one registry under two of them."""

import base64
import hashlib
import json
import os
import subprocess
import sys

import mosquitto_kit
import pytest
from broker_kit import Client
from host_kit import new_fleet, refused
from warden_client import secretfile
from warden_host.broker.accounts import device_account
from warden_host.broker.mosquitto import broker, dynsec, registry

OLD, NEW = "device's old one", "device's new one"


@pytest.fixture
def other(request, monkeypatch) -> mosquitto_kit.Mosquitto:
    """The mosquitto of the suite that the test names, in place of the installed one."""
    try:
        found = mosquitto_kit.fetch(request.param)
    except mosquitto_kit.Missing as why:
        pytest.skip(str(why))
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def made(tmp_path):
    return new_fleet(tmp_path)


def encode(password: str, size: int = dynsec.SALT, iterations: int = 10_000) -> dict[str, str]:
    """A password as the plugin of mosquitto 2.1 saves it."""
    salt = os.urandom(size)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    texts = [base64.b64encode(each).decode() for each in (salt, digest)]
    return {"encoded_password": f"$7${iterations}${texts[0]}${texts[1]}"}


def clients(made) -> dict[str, dict]:
    document = json.loads((made.broker / dynsec.FILE).read_text())
    return {entry["username"]: entry for entry in document["clients"]}


def save_as_2_1(made, keep: tuple[str, ...] = (), **passwords: dict[str, str]) -> None:
    """Give each account the one field of 2.1; the old ones stay where keep names them."""
    path = made.broker / dynsec.FILE
    document = json.loads(path.read_text())
    for entry in document["clients"]:
        known = registry.own_passwords(made).get(entry["username"])
        fields = passwords.get(entry["username"].split(":")[-1]) or encode(known or OLD, 64)
        if entry["username"] not in keep:
            for name in ("password", "salt", "iterations"):
                entry.pop(name, None)
        entry.update(fields)
    secretfile.write(path, json.dumps(document).encode())


def answers(made, device: str, *passwords: str) -> list[str]:
    found = []
    for password in passwords:
        client = Client(made, device, device, password)
        found.append(client.answer)
        client.close()
    return found


@pytest.mark.parametrize("other", ["trixie", "forky"], indirect=True)
def test_the_brokers_tests_pass_under_this_version(other, repo):
    names = [
        repo / "tests" / "host" / "broker" / name
        for name in ("test_broker.py", "test_registry.py", "test_both.py")
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *names],
        cwd=repo,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize("other", ["forky"], indirect=True)
def test_a_password_set_while_2_1_is_stopped_replaces_the_old_one(other, made):
    with registry.opened(made) as accounts:
        accounts.put(device_account("relay", "D1", OLD))
    with broker.Broker(made), registry.opened(made) as accounts:
        accounts.put(device_account("relay", "D2", OLD))  # the plugin saves
    assert "encoded_password" in clients(made)["d:relay:D1"]
    with registry.opened(made) as accounts:
        accounts.set_password("d:relay:D1", NEW)
    with broker.Broker(made):
        assert answers(made, "d:relay:D1", OLD, NEW) == ["Not authorized", "Success"]
        assert answers(made, "d:relay:D2", OLD) == ["Success"]
    # 2.1 warns of each setting that its next major version will not know.
    assert "deprecated" not in (made.broker / broker.LOG).read_text()


@pytest.mark.parametrize("other", ["forky"], indirect=True)
def test_accounts_saved_by_2_1_are_converted_for_2_0(other, made, monkeypatch):
    with registry.opened(made) as accounts:
        accounts.put(device_account("relay", "D1", OLD))
    with broker.Broker(made), registry.opened(made) as accounts:
        accounts.put(device_account("relay", "D2", OLD))
    monkeypatch.undo()  # the installed one
    if broker.version(broker.find_binary()) >= (2, 1):
        pytest.skip("the installed mosquitto is no older one")
    with pytest.raises(broker.HostError, match=r"2\.1 set passwords.*: d:relay:D2$"):
        broker.Broker(made).start()
    with registry.opened(made) as accounts:  # what `provision --again` does
        accounts.put(device_account("relay", "D2", NEW))
    with broker.Broker(made), registry.opened(made):  # the administrator logs in as well
        assert answers(made, "d:relay:D1", OLD, NEW) == ["Success", "Not authorized"]
        assert answers(made, "d:relay:D2", OLD, NEW) == ["Not authorized", "Success"]


# Without a second mosquitto


def test_a_new_password_leaves_none_beside_it(made):
    for number, keep in enumerate([(), ("d:relay:D0", "d:relay:D1")]):
        device = f"d:relay:D{number}"
        dynsec.put(made.broker, device_account("relay", f"D{number}", OLD))
        save_as_2_1(made, keep)
        dynsec.set_password(made.broker, device, NEW)
        fields = {"username", "clientid", "roles", "password", "salt", "iterations"}
        assert set(clients(made)[device]) == fields


def test_the_registry_of_2_1_is_brought_to_2_0(made):
    for device in ("D1", "D2"):
        dynsec.put(made.broker, device_account("relay", device, OLD))
    save_as_2_1(made, ("d:relay:D2",), D1=encode(OLD), D2=encode(NEW))
    dynsec.put(made.broker, device_account("relay", "D3", OLD))  # which has the form of 2.0
    own = registry.own_passwords(made)
    assert sorted(own) == ["a:authority", "warden-admin"]
    assert dynsec.convert_to_2_0(made.broker, own) == []
    assert not any("encoded_password" in entry for entry in clients(made).values())
    before = (made.broker / dynsec.FILE).read_bytes()
    assert dynsec.convert_to_2_0(made.broker, own) == []
    assert (made.broker / dynsec.FILE).read_bytes() == before
    if broker.version(broker.find_binary()) < (2, 1):
        with broker.Broker(made), registry.opened(made):
            assert answers(made, "d:relay:D1", OLD, NEW) == ["Success", "Not authorized"]
            # Where both forms stood, 2.1 went by the new one.
            assert answers(made, "d:relay:D2", OLD, NEW) == ["Not authorized", "Success"]


@pytest.mark.parametrize(
    "fields",
    [
        encode(OLD, 64),
        {"encoded_password": "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA"},
        {"encoded_password": "$7$many$c2FsdHNhbHRzYWx0$aGFzaA=="},
        {"encoded_password": "$7$1000$no base64$aGFzaA=="},
        {"encoded_password": ""},
    ],
    ids=["a long salt", "argon2", "no number", "no base64", "empty"],
)
def test_a_password_that_2_0_cannot_check(made, monkeypatch, fields):
    dynsec.put(made.broker, device_account("relay", "D1", OLD))
    save_as_2_1(made, D1=fields)
    monkeypatch.setattr(broker, "version", lambda _: (2, 0, 21))
    with refused("registry-damaged"):
        broker.Broker(made).start()
    assert clients(made)["d:relay:D1"]["encoded_password"] == fields["encoded_password"]


def test_which_version_it_is(tmp_path):
    program = tmp_path / "mosquitto"
    for told, version in (("mosquitto version 2.1.2", (2, 1, 2)), ("", (0,)), ("2.1", (0,))):
        program.write_text(f"#!/bin/sh\necho '{told}'\nexit 3\n")
        program.chmod(0o755)
        assert broker.version(str(program)) == version
    assert broker.version(str(tmp_path / "none")) == (0,)
    assert broker.version(broker.find_binary())[0] == 2
