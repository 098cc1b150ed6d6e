"""`warden app token`, its three neighbours, and `warden token` up to the control socket."""

import json

import pytest
from cli_kit import fails, said
from warden_host import control_client
from warden_host.cli import main
from warden_host.devices import token_terms
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.store.store import Device, Store

ADD = "app add home --type lock --command get_relay".split()
SECRET = "s3cret-of-a-client"


@pytest.fixture
def app(folder, capsys):
    assert main.run(ADD) == 0
    capsys.readouterr()
    return folder


def test_a_token_is_shown_once_listed_and_revoked(app, capsys):
    assert main.run(["app", "token", "home", "--read", "--days", "2", "--json"]) == 0
    made = said(capsys)
    assert made["scope"] == ["read:lock"]
    assert made["user"] == f"t:home:{made['id']}"
    assert main.run(["app", "tokens", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["id"] == made["id"]
    assert made["token"] not in out
    assert main.run(["app", "revoke-token", made["id"]]) == 0
    assert made["id"] in capsys.readouterr().out
    assert main.run(["app", "tokens"]) == 0
    assert "revoked" in capsys.readouterr().out
    fails(capsys, "token-unknown", "app", "revoke-token", "0" * 16)


def test_a_token_in_a_file(app, capsys, tmp_path):
    out = tmp_path / "home.token"
    order = ["app", "token", "home", "--command", "get_relay", "--out", str(out)]
    assert main.run(order) == 0
    text = out.read_text()
    assert text not in capsys.readouterr().out
    assert out.stat().st_mode & 0o777 == 0o600
    fails(capsys, "bad-argument", *order)
    assert out.read_text() == text


def test_tokens_that_are_not_made(app, capsys):
    fails(capsys, "bad-argument", "app", "token", "home")
    fails(capsys, "bad-argument", "app", "token", "home", "--read", "--days", "nan")
    fails(capsys, "bad-argument", "app", "token", "home", "--read", "--type", "door")
    fails(capsys, "bad-argument", "app", "token", "home", "--command", "get_relay", "--rabbitmq")
    fails(capsys, "app-unknown", "app", "token", "garden", "--read", "--type", "lock")
    assert main.run(["app", "tokens"]) == 0
    assert "no tokens" in capsys.readouterr().out


def test_the_key_that_verifies_them(app, capsys):
    assert main.run(["app", "token-key"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("-----BEGIN PUBLIC KEY-----") and "PRIVATE" not in out


class Asked:
    """A device that takes what it is given. orders: what went over the control socket."""

    def __init__(self):
        self.orders = []
        self.id = 0

    def call(self, _path, request, _timeout_s):
        order = request.get("order", {})
        self.orders.append(order)
        self.id = order.get("id", self.id)
        result = {"id": self.id, "proved": self.id, "pending": False}
        return {"ok": True, "reply": {"ok": True, "result": result}}


@pytest.fixture
def device(folder, monkeypatch):
    with Store(Fleet(folder).database) as store, store.transaction():
        store.add_device(Device("D1", "lock", "UNIX", "sealed", policy.record(auth="token")))
        store.add_device(Device("P1", "lock", "UNIX", "plain", policy.record(mode="plain")))
    asked = Asked()
    monkeypatch.setattr(control_client, "call", asked.call)
    monkeypatch.setattr(token_terms, "_PAUSE_S", 0.01)
    return asked


def test_a_device_s_terms_are_changed(device, capsys, tmp_path):
    file = tmp_path / "secret"
    file.touch(0o600)
    file.write_text(SECRET + "\n")
    change = ["token", "D1", "--token-url", "https://id.example/token", "--client-id", "lock-17"]
    change += ["--client-secret-file", str(file)]
    assert main.run([*change, "--json"]) == 0
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    given = next(order for order in device.orders if order)
    assert given["id"] == 1
    assert given["terms"][2] == {"hex": SECRET.encode().hex()}
    assert main.run(["token", "D1"]) == 0
    assert "change 1 is in force" in capsys.readouterr().out
    assert main.run(["token", "D1", "--renew"]) == 0
    assert device.orders[-1] == {"renew": True}
    capsys.readouterr()
    # A secret that others can read is none.
    file.chmod(0o644)
    fails(capsys, "key-permissions", *change)


@pytest.mark.parametrize(
    "options",
    [
        ["--renew", "--token-url", "https://id.example/token", "--client-id", "x"],
        ["--token-url", "http://id.example/token", "--client-id", "x"],
        ["--token-url", "https://user:pw@id.example/token", "--client-id", "x"],
        ["--token-url", "https://id.example/token"],
        ["--client-id", "x"],
        ["--token-url", "https://id.example/token", "--client-id", "x", "--token-pin", "00"],
    ],
)
def test_terms_that_are_refused(device, capsys, options):
    fails(capsys, "bad-argument", "token", "D1", *options)
    assert device.orders == []


def test_devices_that_take_no_order(device, capsys):
    fails(capsys, "not-applicable", "token", "P1")
    fails(capsys, "device-unknown", "token", "D9")
