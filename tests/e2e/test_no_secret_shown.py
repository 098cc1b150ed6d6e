"""A fleet lives through all that it does; nothing that it shows has one of its secrets.

Looked at: what every command and service prints, the page of metrics, the broker's log, the audit
log, and the arguments of all processes. Each secret is looked for as it is, in hex and in base64.
"""

import base64
import contextlib
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_kit import PATIENCE_S
from port_kit import free_ports
from process_kit import child
from warden_host.broker.accounts import device_password
from warden_host.cli import main
from warden_host.devices import provision, rotation
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Store

COMMAND = [sys.executable, "-m", "warden_host.cli"]
PASSPHRASE = "correct horse battery"
LEAST = 12  # bytes of what counts as a secret


class Seen:
    """All that was shown, as bytes."""

    def __init__(self) -> None:
        self.text = bytearray()
        self.ports: list[int] = []

    def add_processes(self) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                self.text += path.read_bytes()

    def follow(self, stream) -> threading.Thread:
        def read() -> None:
            for line in stream:
                self.text += line.encode()
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    if isinstance(record, dict) and "port" in record:
                        self.ports.append(record["port"])

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread


def forms(secret: bytes) -> Iterator[bytes]:
    """Yield a secret as it may stand in a text; base64 in each of its three phases."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield re.sub(rb"\\x(..)", rb"\\x\1", repr(secret)[2:-1].encode())
    with contextlib.suppress(UnicodeDecodeError):
        yield json.dumps(secret.decode())[1:-1].encode()
    for phase in range(3):
        cut = secret[phase:][: (len(secret) - phase) // 3 * 3]
        plain = base64.b64encode(cut)
        yield plain
        yield plain.replace(b"+", b"-").replace(b"/", b"_")


def secrets_of(fleet: Fleet) -> dict[str, bytes]:
    """Return name → secret, of all that lie in the fleet's folder."""
    found = {}
    for path in fleet.keys.rglob("*"):
        if path.is_file() and path.suffix not in (".crt", ".pub"):
            data = path.read_bytes().strip()
            blocks = re.findall(rb"PRIVATE KEY-----\n(.*?)\n-----END", data, re.DOTALL)
            for block in blocks:
                der = base64.b64decode(block)
                # Of an open EC key the scalar; of a sealed one what is sealed.
                found[path.name] = der[36:68] if b"ENCRYPTED" not in data else der[-64:]
            if not blocks:
                found[path.name] = data
    with Store(fleet.database, read_only=True) as store:
        for device in store.devices():
            for pair in device.pairs:
                found[f"K of {pair.appid} {pair.k[:2].hex()}"] = pair.k
                found[f"uid of {pair.appid} {pair.uid[:2].hex()}"] = pair.uid
    return found


def test_what_is_looked_for_would_be_found():
    secret = bytes(range(200, 232))
    for text in (
        secret,
        secret.hex().encode(),
        repr(secret).encode(),
        base64.b64encode(b"x" + secret),
        base64.urlsafe_b64encode(b"xy" + secret),
    ):
        assert any(form in text for form in forms(secret))
    word = "p\u00e4ss\u07ffword of a device"
    assert any(form in json.dumps({"p": word}).encode() for form in forms(word.encode()))


@pytest.fixture
def passwords(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices' passwords: they are in no file of the fleet."""
    made: list[str] = []

    def draw() -> str:
        made.append(device_password())
        return made[-1]

    for module in (provision, rotation):
        monkeypatch.setattr(module, "device_password", draw)
    return made


def test_no_secret_is_shown(tmp_path, umqtt_path, monkeypatch, capfd, passwords):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WARDEN_FLEET", str(tmp_path / "fleet"))
    port, admin = map(str, free_ports(2))
    seen = Seen()
    held: dict[str, bytes] = {"passphrase": PASSPHRASE.encode()}

    def do(*arguments: str, code: int | None = 0) -> str:
        done = main.run(list(arguments))
        out, err = capfd.readouterr()
        seen.text += (out + err).encode(errors="surrogateescape")
        seen.add_processes()
        assert code is None or done == code, out + err
        return str(out)

    (tmp_path / "passphrase").write_text(PASSPHRASE)
    (tmp_path / "passphrase").chmod(0o600)
    do("init", "fleet", "--port", port, "--admin-port", admin)
    do("keys", "make", "release", "--passphrase-file", "passphrase")
    do("app", "add", "home", "--type", "relay", "--command", "set_relay")
    do("provision", "D1", "--sim")
    fleet = Fleet(tmp_path / "fleet")
    held |= secrets_of(fleet)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    serve = [*COMMAND, "serve", "--log-format", "json", "--metrics", "0"]
    with child(serve, **pipes) as server, contextlib.ExitStack() as stack:
        readers = [seen.follow(server.stdout), seen.follow(server.stderr)]
        until(lambda: b'"serving"' in seen.text)
        device = stack.enter_context(child([*COMMAND, "run", "D1"], **pipes))
        readers += [seen.follow(device.stdout), seen.follow(device.stderr)]
        until(lambda: '"online"' in do("devices", "--json"))
        do("send", "D1", "set_relay", '{"on": 1}', "--app", "home", "--timeout", str(PATIENCE_S))
        for forgery in ("tamper", "plain", "wrong-id"):
            do("send", "D1", "set_relay", "{}", "--app", "home", "--forge", forgery, code=None)
        token = json.loads(
            do("app", "token", "home", "--type", "relay", "--command", "set_relay", "--json")
        )["token"]
        start = seen.text.index(token.encode())
        del seen.text[start : start + len(token)]  # shown once, on purpose
        held["token"] = token.encode()
        do("rotate", "D1", "--password", "--keys")
        held |= secrets_of(fleet)
        do("rotate", "D1", "--password", "--keys", "--json", code=None)
        held |= secrets_of(fleet)
        for look in (
            ("show", "D1", "--json"),
            ("log", "--json"),
            ("audit", "list", "--json"),
            ("app", "tokens", "--json"),
            ("doctor", "--json"),
        ):
            do(*look, code=None)
        assert "unknown" in do("send", "D9", "set_relay", "{}", code=5) + seen.text.decode(
            errors="replace"
        )
        page = f"http://127.0.0.1:{seen.ports[0]}/metrics"
        seen.text += urllib.request.urlopen(page, timeout=PATIENCE_S).read()
    for reader in readers:
        reader.join(PATIENCE_S)
    for path in (fleet.broker / "mosquitto.log", fleet.broker / "mosquitto.conf"):
        seen.text += path.read_bytes()
    held |= {f"password {n}": one.encode() for n, one in enumerate(passwords)}
    assert len(passwords) >= 2
    assert len([name for name in held if name.startswith("K of")]) >= 4
    text = bytes(seen.text)
    assert b"tampered" in text and b"warden_serve_up" in text and b"mosquitto" in text
    shown = [
        name
        for name, secret in held.items()
        if len(secret) >= LEAST and any(form in text for form in forms(secret) if form)
    ]
    assert shown == []


def until(holds) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)
