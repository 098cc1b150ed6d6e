"""`warden rollout` against real devices over a real broker: a service that is killed in the middle, a device that is away, one that is not well."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_kit import Journal, free_ports
from warden_host.fleet import Fleet
from warden_host.store import Store

SOON_S = 60
COMMAND = [sys.executable, "-m", "warden_host.cli"]
PASSPHRASE = "correct horse battery"
APP = """import asyncio
from warden import Device

device = Device.from_board()
device.health = lambda: {healthy}


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
            timeout=SOON_S,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    @contextlib.contextmanager
    def service(self, *arguments: str) -> Iterator[tuple["subprocess.Popen[str]", Journal]]:
        lines = Journal()
        with subprocess.Popen(
            [*COMMAND, *arguments, "--json"], cwd=self.folder, stdout=subprocess.PIPE, text=True
        ) as process:

            def read() -> None:
                for line in process.stdout or ():
                    lines.add(json.loads(line))

            threading.Thread(target=read, daemon=True).start()
            try:
                yield process, lines
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(SOON_S)

    @contextlib.contextmanager
    def serving(self) -> Iterator["subprocess.Popen[str]"]:
        with self.service("serve") as (process, lines):
            lines.take(lambda line: line.get("text") == "serving", "serving")
            yield process

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


def starts(lines: Journal, device: str, version: str) -> None:
    lines.take(lambda line: line.get("line") == f"version {version}", f"{device} {version}")


def test_rollouts(hands: Hands) -> None:
    two, sick = hands.release("2", filler=40_000), hands.release("3", healthy=False)
    four = hands.release("4", True, 2000, "--encrypt", "--mpy", "--floor", "1")
    with hands.service("run", "D1") as (_, one), hands.service("run", "D2") as (stopped, other):
        with hands.serving() as server:
            with hands.service("rollout", two, "--type", "relay") as (follower, lines):
                far = 20_000
                lines.take(lambda line: line.get("done", 0) > far, "a download half-way")
                server.kill()  # nothing is said, nothing is written
                assert follower.wait(SOON_S) == 1
                assert lines.all()[-1]["error"]["code"] == "not-serving"
        with hands.serving():
            # The same command shows the same rollout, which goes on.
            last = hands.command("rollout", two, "--type", "relay")[-1]
            assert (last["state"], last["counts"]) == ("done", {"Accepted": 2})
            assert len(hands.command("rollouts")) == 1
            starts(one, "D1", "2")
            starts(other, "D2", "2")

            # Not well: it falls back, and the rollout stops before it reaches the other one.
            lines_of = hands.command("rollout", sick, "--type", "relay", "--wave", "50%", code=1)
            assert lines_of[-1]["state"] == "stopped"
            assert lines_of[-1]["counts"] == {"Rejected": 1, "Waiting": 1}
            rejected = [line for line in lines_of if line.get("state") == "Rejected"]
            assert rejected[0]["reason"] == "trial-failed"

            # Away: the rollout rests, and goes on when the device comes.
            stopped.send_signal(signal.SIGTERM)
            stopped.wait(SOON_S)
            last = hands.command("rollout", four, "--type", "relay")[-1]
            assert (last["state"], last["counts"]) == ("resting", {"Accepted": 1, "Away": 1})
            with hands.service("run", "D2") as (_, again):
                starts(again, "D2", "2")
                starts(again, "D2", "4")
                with hands.service("rollouts", "3", "--follow") as (_, lines):
                    end = lines.take(lambda line: line.get("state") == "done", "the end")
                assert end["counts"] == {"Accepted": 2}
    with Store(Fleet(hands.folder / "fleet").database) as store:
        assert [record.state for record in store.rollouts()] == ["done", "stopped", "done"]
