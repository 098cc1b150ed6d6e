"""Codes from end to end: the real firmware, its keys through a simulated matrix, mosquitto, the
authority, a mail server.

test_gate.py shows the device's rules; here is what the authority and the owner see: late, used,
cancelled and foreign codes, duress, mail, the command line.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email import policy as mail_policy
from pathlib import Path
from typing import Any

import pyotp
import pytest
from aiosmtpd.controller import Controller
from fleet_kit import PATIENCE_S, Journal, World
from otp_kit import DEVICE, Keypad, Owner, numbers, other, pass_time
from port_kit import free_ports
from process_kit import child
from terminal_kit import Terminal
from warden_host.engine.request import Request
from warden_host.otp import enrol
from warden_host.protocol import policy
from warden_host.store.otp import Contact
from warden_host.store.store import Store

# Says how warm it is before it has started: what the policy lets out, the gate does.
EAGER = """
import asyncio
from warden import Device
device = Device.from_board(log=lambda code, text: print("log", code, text))
async def report():
    await device.publish("temperature", {"c": 20})
async def main():
    told = asyncio.create_task(report())
    await device.start()
    print("started")
    await asyncio.sleep(3600)
asyncio.run(main())
"""


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    yield World(tmp_path)


def test_late_cancelled_used_and_foreign_codes(world: World) -> None:
    # Of ten digits, which nothing else in a file of the fleet has by chance.
    home = world.provision(otp=policy.otp(retries=10, digits=10))
    far = world.provision("D2", otp=policy.otp(digits=10))
    with world, Keypad(home) as board, Keypad(far) as neighbour:
        owner, second = Owner(world), Owner(world)
        board.asks()
        neighbour.asks()
        late, foreign = owner.code(), second.code("D2")
        # For another device: right there, wrong here.
        board.enter(foreign if foreign != late else other(late))
        board.asks("Wrong code")
        neighbour.enter(foreign)
        neighbour.opens()
        # Late by the authority's clock: it is the one that counts.
        pass_time(world, 301)
        board.enter(late)
        board.wait_line("display Press a key|Code expired")
        world.fleet_event("refused", code="otp-late")
        # A new request, at once since it is a new start: the code before it counts no more, the
        # newest does.
        board.kill()
        board.start()
        board.asks()
        right = owner.code()
        board.enter(late if late != right else other(right))
        board.asks("Wrong code")
        board.enter(right)
        board.opens()
        # Used: after a power cycle the device asks for another one.
        board.kill()
        board.start()
        board.asks()
        newest = owner.code()
        board.enter(right if right != newest else other(newest))
        board.asks("Wrong code")
        board.enter(newest)
        board.opens()
        assert world.command("set_relay", on=1) == {"on": 1}
    with Store(world.fleet.database) as store:
        codes = {each.code for each in store.incidents(DEVICE) if each.source == "host"}
        assert codes == {"otp-wrong", "otp-late"}
        names = {name for _, _, name, _ in store.events(DEVICE)}
        assert names == {"gate", "temperature"}
    # Nothing that was written or shown holds a code that opened something.
    kept = b"".join(path.read_bytes() for path in world.fleet.root.rglob("*") if path.is_file())
    shown = "\n".join(str(news.record()) for news in world.news.all())
    for code in (right, newest, foreign):
        assert code.encode() not in kept.replace(b"\0", b"")
        assert code not in numbers(shown)
        assert code not in numbers("\n".join(board.lines.all() + neighbour.lines.all()))


def test_only_documented_messages_before_the_code(world: World, tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(EAGER)
    for before in ("nothing", "telemetry"):
        terms = policy.otp(before=before)
        home = world.provision(before, source=app, otp=terms)
        with world, Keypad(home) as board:
            owner = Owner(world)
            board.asks()
            code = owner.code(before)
            if before == "telemetry":
                world.fleet_event("event", device=before, name="temperature")
            answer = world.authority.command(
                Request(before, "set_relay", {}, timeout_s=PATIENCE_S)
            )  # type: ignore[union-attr]
            assert answer["reply"]["error"] == "gate-shut"
            seen = [news.name for news in world.news.all() if news.device == before]
            assert ("temperature" in seen) == (before == "telemetry")
            assert "started" not in board.lines.all()
            board.enter(code)
            board.wait_line("started")
            world.fleet_event("event", device=before, name="gate")


class Mailbox:
    def __init__(self) -> None:
        self.mails = Journal()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        mail = message_from_bytes(envelope.content, policy=mail_policy.default)
        self.mails.add((envelope.rcpt_tos[0], mail["Subject"], mail.get_content()))
        return "250 OK"


@contextlib.contextmanager
def mail_server() -> Iterator[tuple[Mailbox, int]]:
    (port,) = free_ports(1)
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield box, port
    finally:
        controller.stop()


def test_by_mail_and_under_duress(world: World) -> None:
    home = world.provision(otp=policy.otp(duress=True))
    contacts = [
        Contact("code", "mail", "alice@example.org"),
        Contact("alarm", "mail", "guards@example.org"),
    ]
    with Store(world.fleet.database) as store, store.transaction():
        store.set_contacts(DEVICE, contacts)
    with mail_server() as (box, port):
        world.fleet.document["otp"] = {
            "mail": {
                "host": "127.0.0.1",
                "port": port,
                "security": "none",
                "from": "warden@example.org",
            }
        }
        with world, Keypad(home) as board:
            board.asks()
            to, subject, text = box.mails.wait_item(lambda _: True, "mail")
            assert (to, subject) == ("alice@example.org", f"Code for {DEVICE}")
            lines = dict(line.split(": ") for line in text.splitlines() if ": " in line)
            board.enter(lines["Under duress"])
            board.opens()
            calm = board.lines.all()
            to, subject, text = box.mails.wait_item(lambda _: True, "mail")
            assert to == "guards@example.org"
            assert "duress" in subject
            assert world.fleet_event("incident", code="duress").app == "authority"
            # The display is the same as with the right code.
            board.kill()
            board.start()
            board.asks()
            _, _, text = box.mails.wait_item(lambda mail: mail[0] == "alice@example.org", "mail")
            lines = dict(line.split(": ") for line in text.splitlines() if ": " in line)
            board.enter(lines["Code"])
            board.opens()
            assert _kinds(board.lines.all()) == _kinds(calm)


def _kinds(lines: list[str]) -> list[str]:
    return [
        line for line in lines if line.startswith(("log gate", "display Open", "display Check"))
    ]


def test_an_authenticators_codes_by_time(world: World) -> None:
    """TOTP waits for a time that the authority proved in this boot; each step counts once."""
    enrolled = enrol.new(DEVICE, "totp", 8, False)
    with Store(world.fleet.database) as store, store.transaction():
        store.put_enrolment(enrolled)
    app = pyotp.parse_uri(enrol.uri(enrolled))
    home = world.provision(otp=policy.otp(source="totp", digits=8))
    with world, Keypad(home) as board:
        board.asks()
        board.wait_line("log session-stands")
        used = app.now()
        board.enter(used)
        board.opens("offline")
        world.fleet_event("event", name="gate")
        board.kill()
        board.start()
        board.wait_line("log session-stands")
        board.enter(used)
        board.asks("Wrong code")


class Command:
    """`warden …` as a process of its own, which Ctrl-C ends."""

    def __init__(self, world: World, *arguments: str) -> None:
        self.lines = Journal()
        self._child = child(
            [sys.executable, "-m", "warden_host.cli", *arguments],
            signal.SIGINT,
            env=os.environ | {"WARDEN_FLEET": str(world.fleet.root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=1,
        )

    def __enter__(self) -> "Command":
        self.process = self._child.__enter__()
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *what: Any) -> None:
        self._child.__exit__(*what)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.add(line.rstrip("\n"))

    def wait_line(self, words: str) -> str:
        found: str = self.lines.wait_item(lambda line: words in line, words)
        return found

    def type(self, keys: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(keys)
        self.process.stdin.flush()

    def ends(self) -> None:
        assert self.process.wait(PATIENCE_S) == 0, self.lines.all()


def test_the_owners_own_commands(world: World) -> None:
    """serve, watch, otp watch, run with piped keys, unlock: as a person with three windows has
    it."""
    world.provision(otp=policy.otp())
    with Command(world, "serve") as serve:
        serve.wait_line("serving")
        with (
            Command(world, "watch", "--json") as watch,
            Command(world, "otp", "watch", "--json") as codes,
            Command(world, "run", DEVICE, "--once") as device,
        ):
            watch.wait_line("watching")
            device.wait_line("display Code? 5 min|")
            code = json.loads(codes.wait_line('"code"'))["code"]
            for place, digit in enumerate(code, 1):
                device.type(digit)
                device.wait_line("|" + "*" * place)
            device.type("#")
            device.wait_line("log gate-open otp")
            watch.wait_line('"gate"')
            told = watch.lines.all() + serve.lines.all() + device.lines.all()
            assert code not in numbers("\n".join(told))
        with Command(world, "run", DEVICE, "--once") as device:
            device.wait_line("display Code? 5 min|")
            with Command(world, "unlock", DEVICE, "--json") as unlock:
                unlock.wait_line('"ok": true')
            device.wait_line("log gate-open unlock")
        with Command(world, "otp", "status", DEVICE, "--json") as status:
            record = json.loads(status.wait_line("{"))
            assert record["code"]["state"] == "waiting"
            assert [each["way"] for each in record["deliveries"]] == ["console"]


def warden(world: World, *arguments: str) -> Terminal:
    """`warden …` in a terminal."""
    return Terminal(
        [sys.executable, "-m", "warden_host.cli", *arguments],
        {"WARDEN_FLEET": str(world.fleet.root)},
    )


def test_the_keypad_on_a_terminal(world: World) -> None:
    world.provision(otp=policy.otp())
    with warden(world, "serve") as serve:
        serve.sees("serving fleet")
        with warden(world, "run", DEVICE, "--once") as terminal:
            assert "7 8 9" in terminal.sees("Code? 5 min")
            # On a terminal, which is not logged, `serve` shows the code itself.
            code = re.search(r"code (\d{6})", serve.sees("s left"))
            assert code is not None
            for place, digit in enumerate(code[1], 1):
                terminal.type(digit)
                terminal.sees("*" * place + " ")
            terminal.type("\r")  # Enter is #
            terminal.sees("Open")
            terminal.sees("log gate-open otp")
            for each in (terminal, serve):
                each.type("\x03")
                each.sees("stopped")
                assert each.wait() == 0


VERSION = """
import asyncio
from warden import Device
device = Device.from_board(log=lambda code, text: print("log", code, text))
device.health(lambda: True)
async def main():
    print("version {0}")
    await device.start()
    print("started {0}")
    await asyncio.sleep(3600)
asyncio.run(main())
"""


def test_an_update_needs_no_code_for_its_trial(world: World, tmp_path: Path) -> None:
    """No person is at the device when an update comes: its grant opens the gate for the trial,
    and for nothing after it."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery")
    passphrase.chmod(0o600)
    key = ("--passphrase-file", str(passphrase))
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "app.py").write_text(VERSION.format(version))
    with Command(world, "keys", "make", "release", *key) as keys:
        keys.ends()
    home = world.provision(source=tmp_path / "1" / "app.py", otp=policy.otp())
    new = str(tmp_path / "2")
    with Command(world, "release", new, "--version", "2", "--type", "relay", *key) as release:
        release.ends()
    with Command(world, "serve") as serve:
        serve.wait_line("serving")
        with Command(world, "run", DEVICE) as device:
            device.wait_line("version 1")
            device.wait_line("display Code? 5 min|")
            with Command(world, "rollout", "relay-2", "--device", DEVICE) as rollout:
                rollout.wait_line("Accepted")
            device.wait_line("version 2")
            device.wait_line("log gate-open grant")
            device.wait_line("started 2")
            assert "started 1" not in "\n".join(device.lines.all())
        with Keypad(home) as board:
            board.wait_line("version 2")
            board.asks()
            assert "started 2" not in board.lines.all()
