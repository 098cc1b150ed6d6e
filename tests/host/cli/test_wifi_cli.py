"""`warden wifi` before it reaches a device: options, passwords, and what the socket takes."""

import io
import json
import sys

import pytest
from cli_kit import fails, said
from warden_host import control_client
from warden_host.cli import main
from warden_host.errors import HostError
from warden_host.service.request_fields import read_networks


@pytest.fixture
def device(folder):
    assert main.run(["provision", "D1", "--sim"]) == 0
    return "D1"


@pytest.fixture
def asked(monkeypatch):
    """What reached the socket; it is answered as by a device with one network."""
    requests = []

    def call(_path, request, _timeout=0):
        requests.append(request)
        state = {"id": 0, "proved": 0, "networks": ["garden"], "pending": None}
        if "change" in request:
            state |= {"id": 1, "proved": 1, "networks": ["new"]}
        return {"ok": True, "reply": {"ok": True, "result": state}}

    monkeypatch.setattr(control_client, "call", call)
    monkeypatch.setattr("warden_host.devices.trial.time.sleep", lambda _: None)
    return requests


def test_options_that_do_not_fit(device, capsys):
    capsys.readouterr()
    for options in (
        ["--open"],
        ["--password-file", "x"],
        ["--add", "new", "--open", "--password-file", "x"],
    ):
        fails(capsys, "bad-argument", "wifi", device, *options)
    fails(capsys, "device-unknown", "wifi", "D9")
    fails(capsys, "bad-name", "wifi", "D/9")
    fails(capsys, "not-serving", "wifi", device)


def test_a_plain_device(folder, capsys):
    assert main.run(["provision", "D1", "--sim", "--plain"]) == 0
    fails(capsys, "not-applicable", "wifi", "D1")


def test_a_password_is_never_an_argument(device, capsys, asked, tmp_path, monkeypatch):
    """It comes from a file of mode 600, from standard input, or hidden from the terminal."""
    fails(capsys, "bad-argument", "wifi", device, "--add", "new")  # no terminal here
    file = tmp_path / "password"
    file.write_text("a long password\n")
    file.chmod(0o644)
    fails(capsys, "key-permissions", "wifi", device, "--add", "new", "--password-file", str(file))
    file.chmod(0o600)
    assert main.run(["wifi", device, "--add", "new", "--password-file", str(file)]) == 0
    assert asked[-1]["change"]["add"] == ["new", "a long password"]
    text = capsys.readouterr()
    assert "a long password" not in text.out + text.err
    assert main.run(["wifi", device, "--add", "new", "--open"]) == 0
    assert asked[-1]["change"]["add"] == ["new", ""]
    for data in (b"", b"\xff" * 8, b"short"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert main.run(["wifi", device, "--add", "new", "--password-file", "-"]) == 2
        assert "bad-argument" in capsys.readouterr().err


def test_what_is_shown(device, capsys, asked):
    capsys.readouterr()
    assert main.run(["wifi", device]) == 0
    assert "networks of D1: garden" in capsys.readouterr().out
    assert main.run(["wifi", device, "--json"]) == 0
    assert said(capsys) == {"ok": True, "device": "D1", "networks": ["garden"], "pending": None}
    new = ("wifi", device, "--add", "new", "--open")
    assert main.run([*new]) == 0
    assert "networks: new" in capsys.readouterr().out
    assert main.run([*new, "--json"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == {"ok": True, "device": "D1", "networks": ["new"]}


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"id": 4, "proved": 3, "pending": ["new", "garden"]}, "it tries a change: new, garden"),
        ({"id": 4, "proved": 3, "pending": None}, "its last change gave no connection"),
    ],
)
def test_a_change_that_has_not_worked(device, capsys, monkeypatch, state, text):
    result = {"networks": ["garden"]} | state
    answer = {"ok": True, "reply": {"ok": True, "result": result}}
    monkeypatch.setattr(control_client, "call", lambda *_: answer)
    assert main.run(["wifi", device]) == 0
    assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        None,
        "x",
        {},
        {"id": 1, "add": None},
        {"id": 1, "add": None, "keep": [], "more": 1},
        {"id": 1, "add": "new", "keep": []},
        {"id": 1, "add": ["new"], "keep": []},
        {"id": 1, "add": ["new", None], "keep": []},
        {"id": 1, "add": ["new", "a", "b"], "keep": []},
    ],
)
def test_the_socket_takes_one_form(change):
    with pytest.raises(HostError) as error:
        read_networks(change)
    assert error.value.code == "control-malformed"


def test_a_password_becomes_bytes():
    change = {"id": 1, "add": ["new", "gr\u00fcn"], "keep": ["old"]}
    assert read_networks(change) == change | {"add": ["new", "gr\u00fcn".encode()]}
