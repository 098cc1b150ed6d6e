"""The story of an owner of many locks, told by the commands that the documentation names.

    python tests/e2e/story.py [DEVICES] [--wheel]      make story does that, with 50 devices

--wheel: build the tool's wheel, install it into an empty environment, and use that one.
"""

import contextlib
import getpass
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from delivery_kit import HERE, Mailbox
from fleet_kit import Board, Journal, program, wait_until
from port_kit import free_ports

REPO = Path(__file__).resolve().parents[2]
TYPE = "lock"
PROGRAM = REPO / "tests" / "e2e" / "device" / "thermometer.py"
FAN = REPO / "examples" / "application" / "fan.py"


class Story:
    """One owner, one machine."""

    def __init__(
        self, folder: Path, devices: int, python: str, tell: Callable[[str], None] = print
    ) -> None:
        """python: the interpreter that has the tool. tell: called with a line for each step."""
        self.folder = folder
        self.names = [f"door-{number}" for number in range(1, devices + 1)]
        self.fleet = folder / "fleet"
        self.socket = folder / "operators.sock"
        self.tell = tell
        self.box = Mailbox()
        self._python = python
        self._boards: dict[str, Board] = {}
        ports = free_ports(4)
        self.port, self.admin_port, self.smtp_port, self.http_port = ports

    # Parts

    def warden(self, *words: str, status: int = 0, socket: bool = False) -> list[dict[str, Any]]:
        """Give a command; return its lines of JSON. socket: as the colleague."""
        where = ["--socket", str(self.socket)] if socket else ["--fleet", str(self.fleet)]
        argv = [self._python, "-m", "warden_host.cli", *where, *words, "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def program(self, *argv: str) -> contextlib.AbstractContextManager[Journal]:
        """Run a program of the owner's; yield the lines that it prints."""
        return program([self._python, *argv], self.folder)

    def background(self, *words: str) -> contextlib.AbstractContextManager[Journal]:
        """Run a command of the tool until the context ends."""
        return self.program("-m", "warden_host.cli", "--fleet", str(self.fleet), *words)

    def fan(self, name: str) -> contextlib.AbstractContextManager[Journal]:
        """Run an application in a process of its own."""
        return self.program(str(FAN), f"{name}.warden.json")

    @contextlib.contextmanager
    def serving(self) -> Iterator[Journal]:
        """Run `warden serve`, with a socket for operators."""
        with self.background("serve", "--json", "--operators", str(self.socket)) as lines:
            lines.wait_item(lambda line: '"serving"' in line, "serving")
            yield lines

    def online(self) -> int:
        """Count the devices that are online."""
        return sum(one["state"] == "online" for one in self.warden("devices") if "device" in one)

    # Chapters

    def found(self) -> None:
        """A fleet, its devices, and mail for alarms."""
        ports = ("--port", str(self.port), "--admin-port", str(self.admin_port))
        self.warden("init", str(self.fleet), *ports)
        with (self.fleet / "warden.toml").open("a") as file:
            file.write(
                f'[otp.mail]\nhost = "{HERE}"\nport = {self.smtp_port}\n'
                'from = "warden@example.org"\nsecurity = "none"\n'
                '[alarms]\nmail = ["ops@example.org"]\n'
            )
        for app in ("home", "dash"):
            self.warden("app", "add", app, "--type", TYPE, "--command", "set_relay")
        for name in self.names:
            self.warden(
                *("provision", name, "--type", TYPE, "--sim", "--source", str(self.application()))
            )
            self._boards[name] = Board(self.fleet / "sim" / name)
        self.tell(f"{len(self.names)} devices are provisioned")

    def application(self) -> Path:
        """Return the folder of the devices' application."""
        folder = self.folder / "app"
        folder.mkdir(exist_ok=True)
        (folder / "app.py").write_bytes(PROGRAM.read_bytes())
        return folder

    def start_devices(self, stack: contextlib.ExitStack) -> None:
        """Power on all of them; wait until they are online."""
        for board in self._boards.values():
            stack.enter_context(board)
        wait_until(lambda: self.online() == len(self.names), "all devices online")
        self.tell(f"{len(self.names)} devices are online")

    def applications(self, stack: contextlib.ExitStack) -> tuple[Journal, Journal]:
        """Two programs beside `serve`, each with its own account and keys."""
        journals = []
        for app in ("home", "dash"):
            self.warden("app", "export", app)
            lines = stack.enter_context(self.fan(app))
            lines.wait_item(lambda line: line.startswith("logged in as"), "a log-in")
            journals.append(lines)
        for lines in journals:
            lines.wait_item(lambda line: " set_relay " in line, "a command that was obeyed")
        self.tell("two applications command them, in processes of their own")
        return journals[0], journals[1]

    def compromise(self, home: Journal) -> None:
        """One application is cut off; devices lose its keys, the other one goes on."""
        self.warden("app", "remove", "dash", "--yes")
        wait_until(lambda: self._is_gone("dash"), "no device has its keys")
        home.wait_item(lambda line: " set_relay " in line, "a command of the other application")
        self.tell("a compromised application is cut off; its keys are gone from every device")

    def newcomer(self, stack: contextlib.ExitStack) -> None:
        """A third application comes to devices that live."""
        self.warden("app", "add", "guard", "--type", TYPE, "--command", "set_relay")
        wait_until(lambda: self._having("guard") == len(self.names), "all devices have it")
        self.warden("app", "export", "guard")
        lines = stack.enter_context(self.fan("guard"))
        lines.wait_item(lambda line: " set_relay " in line, "a command of the third application")
        self.tell("a third application was added, without a visit to a device")

    def colleague(self) -> None:
        """An operator with less rights: he looks, and is refused what he has no role for."""
        name = self.names[0]
        self.warden("send", name, "set_relay", "{}", socket=True, status=5)
        self.warden("operator", "add", "colleague", "--user", getpass.getuser(), "--role", "look")
        self.warden("send", name, "set_relay", "{}", socket=True, status=4)
        seen = self.warden("devices", socket=True)
        assert [line["presence"] for line in seen] == ["online"] * len(self.names)
        self.warden("devices", "--clear", name, socket=True, status=4)
        outcomes = [
            (line["who"].split()[0], line["outcome"]) for line in self.warden("audit", "list")
        ]
        assert ("colleague", "role-missing") in outcomes
        self.warden("audit", "verify")
        self.tell("a colleague may look, and no more; the audit log says who tried what")

    def alarm(self) -> None:
        """A message that was changed on its way: the device refuses it, and a mail tells."""
        self.warden("send", self.names[0], "set_relay", '{"on": 1}', "--forge", "tamper")
        wait_until(lambda: any(_is_alarm(mail) for mail, _ in self.box.mails), "a mail")
        self.tell("a forged command was refused, and brought a mail")

    def dashboard(self) -> None:
        """The bridge shows the fleet to Prometheus."""
        with self.background("bridge", "--http", f"{HERE}:{self.http_port}") as lines:
            lines.wait_item(lambda line: line == "connected", "connected")
            wait_until(lambda: self._scraped() == len(self.names), "all devices in the metrics")
        self.tell("a dashboard has their state and telemetry")

    def back_up(self) -> None:
        """A backup with a key that is elsewhere."""
        key, file = self.folder / "backup-key.txt", self.folder / "fleet.age"
        (line,) = self.warden("backup", "key", str(key))
        self.warden("backup", "make", str(file), "--to", line["recipient"])
        self.warden("backup", "check", str(file), "--key-file", str(key))
        self.tell("a backup is made and checked")

    def rotate(self) -> None:
        """New secrets for a device, after the backup: both ends keep the former ones."""
        self.warden("rotate", self.names[0], "--password", "--keys")

    def restore(self, stack: contextlib.ExitStack) -> None:
        """The host is lost; another one begins with the backup of before the rotation."""
        self.fleet = self.folder / "new-host"  # the devices' own files stay where they are
        key, file = self.folder / "backup-key.txt", self.folder / "fleet.age"
        self.warden("restore", str(file), "--into", str(self.fleet), "--key-file", str(key))
        stack.enter_context(self.serving())
        wait_until(lambda: self.online() == len(self.names), "all devices online")
        (line,) = self.warden("send", self.names[0], "set_relay", '{"on": 1}')
        assert line["ok"] is True
        self.tell("a backup from before a rotation was restored, and no device is lost")

    def _is_gone(self, app: str) -> bool:
        """Return whether no device has the application's keys any more."""
        argv = [self._python, "-m", "warden_host.cli", "--fleet", str(self.fleet)]
        done = subprocess.run([*argv, "app", "show", app, "--json"], capture_output=True)
        return done.returncode == 5

    def _having(self, app: str) -> int:
        return max(len(line.get("confirmed", ())) for line in self.warden("app", "show", app))

    def _scraped(self) -> int:
        with urllib.request.urlopen(f"http://{HERE}:{self.http_port}/metrics") as answer:
            text = answer.read().decode()
        return sum(
            line.startswith("warden_device_online{") and line.endswith(" 1.0")
            for line in text.splitlines()
        )


def tell_all(story: Story) -> None:
    """Tell the story from its beginning to its end."""
    mail = Controller(story.box, hostname=HERE, port=story.smtp_port)
    mail.start()
    try:
        story.found()
        with contextlib.ExitStack() as devices:
            with contextlib.ExitStack() as host:
                host.enter_context(story.serving())
                story.start_devices(devices)
                home, _ = story.applications(host)
                story.compromise(home)
                story.newcomer(host)
                story.colleague()
                story.alarm()
                story.dashboard()
                story.back_up()
                story.rotate()
            story.restore(devices)
    finally:
        mail.stop()


def _is_alarm(envelope: Any) -> bool:
    return "ops@example.org" in envelope.rcpt_tos and b"tampering" in envelope.content


def installed(folder: Path) -> str:
    """Build the wheels, install them into an empty environment; return its interpreter."""
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(REPO)], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = str(folder / "venv" / "bin" / "python")
    (wheel,) = wheels.glob("*.whl")
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([python, "-m", "pip", *quiet, "install", f"{wheel}[bridge]"], check=True)
    return python


def main() -> None:
    numbers = [word for word in sys.argv[1:] if word.isdigit()]
    # The devices' interpreter is no part of the tool.
    if not os.environ.get("MICROPYTHON"):
        os.environ["MICROPYTHON"] = str(REPO / ".venv" / "bin" / "micropython")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        python = sys.executable
        if "--wheel" in sys.argv:
            os.environ.pop("PYTHONPATH", None)  # what is installed, and no source of here
            python = installed(place)
        tell_all(Story(place, int(numbers[0]) if numbers else 50, python))


if __name__ == "__main__":
    main()
