"""A TOTP door that was taught a false time, and the signed order that brings it back."""

import json
import os
import time
from pathlib import Path

import pyotp
import pytest
from clock_kit import WOKE, false_clock, is_today
from fleet_kit import DEVICE, World, wait_until
from otp_kit import Keypad
from warden_client.protocol.session import Instant
from warden_host import control_client
from warden_host.cli import main
from warden_host.engine.engine import Engine
from warden_host.otp import enrol
from warden_host.protocol import policy
from warden_host.release import signing_key
from warden_host.service.run import serving
from warden_host.store.store import Store

DAY = 86400
# A lock's own command has the name that the gate's has.
LOCK = """
import asyncio
from warden import Device
device = Device.from_board(log=lambda code, text: print("log", code, text))
@device.command("unlock")
def unlock(args):
    return {"bolt": args["bolt"]}
async def main():
    await device.start()
    await asyncio.sleep(86400)
asyncio.run(main())
"""
PASSPHRASE = "a passphrase"


def ahead(world: World, seconds: int) -> None:
    """Let the authority's clock be ahead of the right one by so much."""

    def work(engine: Engine) -> None:
        engine.clock = lambda: Instant(int(time.time()) + seconds, time.monotonic())

    assert world.authority is not None
    world.authority.ask(work)


def enrolled(world: World) -> pyotp.TOTP:
    record = enrol.new(DEVICE, "totp", 8, False)
    with Store(world.fleet.database) as store, store.transaction():
        store.put_enrolment(record)
    app = pyotp.parse_uri(enrol.uri(record))
    assert isinstance(app, pyotp.TOTP)
    return app


def test_a_door_that_was_taught_a_false_time(
    tmp_path: Path,
    umqtt_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    world = World(tmp_path)
    signing_key.make(world.fleet, "release", "p256", PASSPHRASE.encode())
    app = enrolled(world)
    lock = tmp_path / "app.py"
    lock.write_text(LOCK)
    terms = policy.otp(source="totp", digits=8)
    home = world.provision(source=lock, otp=terms, commands=("unlock",))
    chip = home / "fuses" / "clock"
    chip.write_text(WOKE)
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE)
    os.chmod(secret, 0o600)

    def warden(*arguments: str) -> dict:
        code = main.run(["--fleet", str(world.fleet.root), *arguments, "--json"])
        lines = capsys.readouterr().out.splitlines()
        return json.loads(lines[-1]) | {"code": code}

    board = Keypad(home, environment=false_clock() | {"FAKETIME_TIMESTAMP_FILE": str(chip)})

    def start(seconds: int) -> None:
        """Start the device while the authority's clock is ahead by so much."""
        board.kill()
        chip.write_text(WOKE)
        ahead(world, seconds)
        board.start()
        board.wait_line("log session-stands")

    with serving(world.fleet, world.news.add) as service, board:
        world.authority = service.authority
        start(0)
        wait_until(lambda: is_today(warden("clock", "show", DEVICE)["least"]), "the first mark")
        # A wrong clock counts for the boot.
        start(400 * DAY)
        used_at = int(time.time()) + 400 * DAY
        used = app.at(used_at)
        typed = time.time()
        board.enter(used)
        board.opens("offline")
        # More than a day of it, across two boots, is believed for good.
        start(401 * DAY + 60)
        wait_until(lambda: warden("clock", "show", DEVICE)["least"] > used_at, "a false mark")
        start(0)
        board.enter(app.now())
        board.wait_line("display Code?|No time yet")
        shown = warden("clock", "show", DEVICE)
        assert shown["least"] - time.time() > 400 * DAY
        # The gate opens by its own order, and the application's command reaches the application.
        send = ("send", DEVICE, "unlock", '{"bolt": 1}')
        assert warden(*send)["error"]["text"].startswith(f"{DEVICE} refused unlock: gate-shut")
        assert warden("unlock", DEVICE)["ok"] is True
        board.opens("unlock")
        assert warden(*send)["reply"]["result"] == {"bolt": 1}
        # Without the key nobody sets it back: not even who may send all commands.
        forged = {"op": "clock", "device": DEVICE, "order": {"hex": "00"}}
        answer = control_client.call(world.fleet.control, forged | {"signature": {"hex": "00"}})
        assert answer["reply"]["error"] == "cose-malformed"
        done = warden(
            *("clock", "set", DEVICE, "--yes", "--passphrase-file", str(secret)),
        )
        assert (done["code"], done["codes"] - done["time"] <= 60) == (0, True)
        board.ends()
        with Store(world.fleet.database) as store:
            assert any(
                f"clock device={DEVICE} time=" in one.action
                for one in store.latest_audit_rows(100)
            )
        # What was shown up to the order is past; a code from after it opens the door.
        start(150)
        assert is_today(warden("clock", "show", DEVICE)["least"])
        board.enter(app.at(done["time"]))
        board.asks("Wrong code")
        board.enter(app.at(int(time.time()) + 150))
        board.opens("offline")
        # When the false time really comes, the code that was used in it opens nothing.
        start(400 * DAY - int(time.time() - typed))
        board.enter(used)
        board.asks("Wrong code")
