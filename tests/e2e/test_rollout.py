"""`warden rollout` against real devices over a real broker: a service that is killed in the
middle, a device that is away, one that is not well."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import server_kit
from fleet_kit import PATIENCE_S, Journal
from nginx_kit import Nginx
from port_kit import free_ports
from process_kit import child
from warden_host.fleet import pki
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Store

COMMAND = [sys.executable, "-m", "warden_host.cli"]
PASSPHRASE = "correct horse battery"
APP = """import asyncio
from warden import Device

device = Device.from_board()
device.health(lambda: {healthy})


async def main():
    print("version", "{version}")
    await device.start()
    while True:
        await asyncio.sleep(60)


asyncio.run(main())
"""


class Hands:
    """What a person does: commands in one window, services in others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "passphrase").write_text(PASSPHRASE)
        (folder / "passphrase").chmod(0o600)

    def command(self, *arguments: str, code: int = 0) -> list[dict]:
        done = subprocess.run(
            [*COMMAND, *arguments, "--json"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE_S,  # a rollout is an update of several devices
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    @contextlib.contextmanager
    def service(self, *arguments: str) -> Iterator[tuple["subprocess.Popen[str]", Journal]]:
        lines = Journal()
        argv = [*COMMAND, *arguments, "--json"]
        with child(argv, cwd=self.folder, stdout=subprocess.PIPE) as process:

            def read() -> None:
                for line in process.stdout or ():
                    lines.add(json.loads(line))

            threading.Thread(target=read, daemon=True).start()
            yield process, lines

    @contextlib.contextmanager
    def serving(self) -> Iterator["subprocess.Popen[str]"]:
        with self.service("serve") as (process, lines):
            lines.wait_item(lambda line: line.get("text") == "serving", "serving")
            yield process

    def until(self, *arguments: str, holds: Callable[[list[dict]], bool]) -> list[dict]:
        """Give the command until what it says holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds(said := self.command(*arguments)):
            assert time.monotonic() < deadline, said
            time.sleep(0.3)
        return said

    def online(self, *devices: str) -> None:
        self.until(
            "devices",
            holds=lambda said: all(
                one["state"] == "online" for one in said if one["device"] in devices
            ),
        )

    def ended(self, number: int) -> dict:
        """What a rollout came to."""
        [said] = self.until(
            "rollouts", str(number), holds=lambda said: said[0]["state"] != "active"
        )
        return said

    def release(self, version: str, healthy: bool = True, filler: int = 0, *more: str) -> str:
        app = self.app(version, healthy)
        (app / "filler.bin").write_bytes(os.urandom(filler))
        [made] = self.command(
            *("release", str(app), "--version", version, "--type", "relay"),
            *("--passphrase-file", "passphrase", *more),
        )
        return str(made["release"])

    def app(self, version: str, healthy: bool = True) -> Path:
        app = self.folder / f"app-{version}"
        app.mkdir()
        (app / "app.py").write_text(APP.format(version=version, healthy=healthy))
        return app


@pytest.fixture
def hands(tmp_path: Path, umqtt_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hands:
    made = Hands(tmp_path)
    port, admin = free_ports(2)
    monkeypatch.setenv("WARDEN_FLEET", str(tmp_path / "fleet"))
    made.command("init", "fleet", "--port", str(port), "--admin-port", str(admin))
    made.command("keys", "make", "release", "--passphrase-file", "passphrase")
    source = str(made.app("1"))
    for device in ("D1", "D2"):
        made.command("provision", device, "--sim", "--source", source)
    return made


def states(said: list[dict]) -> dict[str, str]:
    return {one["device"]: one["state"] for one in said}


def starts(lines: Journal, device: str, version: str) -> None:
    lines.wait_item(lambda line: line.get("line") == f"version {version}", f"{device} {version}")


def test_rollouts(hands: Hands) -> None:
    two, sick = hands.release("2", filler=40_000), hands.release("3", healthy=False)
    four = hands.release("4", True, 2000, "--encrypt", "--mpy", "--floor", "1")
    with hands.service("run", "D1") as (_, one), hands.service("run", "D2") as (stopped, other):
        with hands.serving() as server:
            hands.online("D1", "D2")
            with hands.service("rollout", two, "--type", "relay") as (follower, lines):
                far = 20_000
                lines.wait_item(lambda line: line.get("done", 0) > far, "a download half-way")
                server.kill()  # nothing is said, nothing is written
                assert follower.wait(PATIENCE_S) == 3
                error = lines.wait_item(lambda line: "error" in line, "an error")["error"]
                assert error["code"] == "not-serving"
        with hands.serving():
            # It goes on by itself, where it was.
            end = hands.ended(1)
            assert (end["state"], end["counts"]) == ("done", {"Accepted": 2})
            starts(one, "D1", "2")
            starts(other, "D2", "2")

            hands.online("D1", "D2")

            # Not well: it falls back, and the rollout stops before it reaches the other one.
            lines_of = hands.command("rollout", sick, "--type", "relay", "--wave", "50%", code=1)
            assert lines_of[-1]["state"] == "stopped"
            assert lines_of[-1]["counts"] == {"Rejected": 1, "Waiting": 1}
            rejected = [line for line in lines_of if line.get("state") == "Rejected"]
            assert rejected[0]["reason"] == "trial-failed"

            # Away: the rollout rests, and goes on when the device comes.
            stopped.send_signal(signal.SIGTERM)
            stopped.wait(PATIENCE_S)
            hands.until("devices", holds=lambda said: states(said)["D2"] != "online")
            last = hands.command("rollout", four, "--type", "relay")[-1]
            assert (last["state"], last["counts"]) == ("resting", {"Accepted": 1, "Away": 1})
            with hands.service("run", "D2") as (_, again):
                starts(again, "D2", "2")
                starts(again, "D2", "4")
                assert hands.ended(3)["counts"] == {"Accepted": 2}
    with Store(Fleet(hands.folder / "fleet").database) as store:
        assert [record.state for record in store.rollouts()] == ["done", "stopped", "done"]


def test_an_encrypted_release_from_a_web_server(hands: Hands, tmp_path: Path) -> None:
    fleet = Fleet(hands.folder / "fleet")
    leaf = pki.load_ca(fleet.keys).issue(
        (server_kit.HOST,), key=pki.load_key(fleet.keys / "server.key")
    )
    nginx = Nginx(tmp_path / "web", leaf.certificate, leaf.key)
    name = hands.release("2", True, 40_000, "--encrypt", "--url", nginx.url("updates"))
    (nginx.www / "updates").symlink_to(fleet.root / "releases")
    with nginx.running(), hands.serving(), hands.service("run", "D1") as (_, lines):
        hands.online("D1")
        told = hands.command("rollout", name, "--device", "D1")
        assert told[-1]["counts"] == {"Accepted": 1}
        starts(lines, "D1", "2")
    assert len(nginx.requests()) == 3
    assert all(
        f"/updates/{name}/app.img" in line and '" 206 ' in line for line in nginx.requests()
    )
