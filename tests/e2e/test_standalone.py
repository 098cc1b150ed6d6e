"""warden.standalone at mosquitto with a password file: no plugin, no authority of Warden."""

import base64
import contextlib
import hashlib
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from fleet_kit import Journal, wait_until
from port_kit import free_ports
from process_kit import PATIENCE_S
from standalone_kit import HOST, Program, keys
from warden_host.broker.mosquitto.broker import find_binary
from warden_host.childprocess import tie_to_us

# No text; without NUL, at which mosquitto cuts a password.
SECRET = bytes(range(1, 256))


class Site:
    """A mosquitto that may be stopped and started, and what a user of it hears."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca, self.pins = keys(folder / "keys")
        (self.port,) = free_ports(1)
        lines = [f"porch:{_hash(SECRET)}", f"user:{_hash(b'of the user')}"]
        (folder / "passwords").write_text("\n".join(lines) + "\n")
        (folder / "passwords").chmod(0o600)
        (folder / "mosquitto.conf").write_text(
            f"""user {os.environ.get("USER", "root")}
listener {self.port} {HOST}
certfile {folder}/keys/server.crt
keyfile {folder}/keys/server.key
password_file {folder}/passwords
allow_anonymous false
"""
        )
        self.heard = Journal()
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.child = subprocess.Popen(
            tie_to_us([find_binary(), "-c", str(self.folder / "mosquitto.conf")]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="user")
        self.client.username_pw_set("user", "of the user")
        context = ssl.create_default_context(cafile=str(self.folder / "keys" / "ca.crt"))
        self.client.tls_set_context(context)
        self.client.on_message = lambda _c, _d, message: self.heard.add(
            (message.topic, message.payload)
        )

        def answers() -> bool:
            with contextlib.suppress(OSError):
                self.client.connect(HOST, self.port)
                return True
            return False

        wait_until(answers, "mosquitto")
        self.client.loop_start()
        self.client.subscribe("porch/#", qos=1)

    def stop(self) -> None:
        self.client.loop_stop()
        if self.child is not None:
            self.child.kill()
            self.child.wait(PATIENCE_S)

    def hears(self, topic: str, payload: bytes) -> None:
        self.heard.wait_item(lambda item: item == (topic, payload), f"{topic} {payload!r}")


def _hash(password: bytes) -> str:
    """Return a password as mosquitto_passwd of 2.0 writes it."""
    salt = os.urandom(12)
    digest = hashlib.pbkdf2_hmac("sha512", password, salt, 101)
    return f"$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def program(repo: Path, umqtt_path: Path, micropython: str, tmp_path: Path) -> Iterator[Program]:
    folder = tmp_path / "board"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        made = Program(repo, umqtt_path, micropython, folder)
        stack.callback(made.kill)
        yield made


def test_at_a_broker_of_one_s_own(site: Site, program: Program, tmp_path: Path) -> None:
    program.provision(site.port, b"porch", SECRET, [site.ca], site.pins)
    program.start()
    site.hears("porch/temperature", b"21.5")
    program.wait_line("published")
    site.client.publish("porch/relay", b"on", qos=1)
    program.wait_line("message porch/relay on")
    # A message above max_message is dropped, and the link goes on.
    site.client.publish("porch/relay", bytes(3000), qos=1)
    program.wait_line("mqtt-too-large")
    site.client.publish("porch/relay", b"still here", qos=1)
    program.wait_line("message porch/relay still here")
    # The broker goes and comes back: so does the link, with its subscription.
    site.stop()
    program.wait_line("link-closed")
    site.start()
    program.wait_line("link-up")
    site.client.publish("porch/relay", b"off", qos=1)
    program.wait_line("message porch/relay off")
    # Its power is cut: the broker tells it by the last will.
    program.kill()
    site.hears("porch/state", b"away")
    # The password is nowhere on the board's flash in clear.
    files = [path for path in (tmp_path / "board").rglob("*") if path.is_file()]
    assert files and not [path for path in files if SECRET[40:60] in path.read_bytes()]


@pytest.mark.parametrize(
    ("change", "code"), [("password", "mqtt-refused"), ("pins", "pin-mismatch")]
)
def test_what_it_refuses(site: Site, program: Program, change: str, code: str) -> None:
    password = SECRET[:-1] + b"\x01" if change == "password" else SECRET
    pins = [bytes(32), bytes([1]) * 32] if change == "pins" else site.pins
    program.provision(site.port, b"porch", password, [site.ca], pins)
    program.start()
    program.wait_line(code)
    assert not [line for line in program.lines.all() if line.startswith(("link-up", "published"))]


def test_the_page_s_own_steps(
    repo: Path, umqtt_path: Path, micropython: str, tmp_path: Path
) -> None:
    """The blocks of docs/standalone.md as they stand there, but for port and broker."""
    page = (repo / "docs" / "standalone.md").read_text()
    first, steps = re.findall(r"^```\n(export .*?|python account.*?)^```$", page, re.M | re.S)
    (account,) = re.findall(r"^```python\n# account.py\n(.*?)^```$", page, re.M | re.S)
    (port,) = free_ports(1)
    shell = first.replace("8899", str(port)).removesuffix("mosquitto -c mosquitto.conf -d\n")
    assert len(shell) < len(first)
    folder = tmp_path / "porch"
    path = (
        f"{Path(sys.executable).parent}:{Path(micropython).parent}:{os.environ['PATH']}:/usr/sbin"
    )
    environment = os.environ | {"PATH": path}
    script = f"cd {repo}\n{shell}".replace(
        "mkdir porch && cd porch", f"mkdir {folder}; cd {folder}"
    )
    script = script.replace("$PWD/build/umqtt", str(umqtt_path))
    secret = "a long secret\n"
    _bash(script, environment, secret * 2)
    (folder / "account.py").write_text(account.replace("8899", str(port)))
    provision, run = [line.split("   ")[0] for line in steps.splitlines()]
    head = (
        f"export MICROPYPATH={repo}/lib:{umqtt_path}:.frozen EXAMPLE={repo}/examples/standalone\n"
    )
    head += f"cd {folder}\n"
    assert _bash(head + provision, environment).splitlines()[-1] == "stored"
    argv = tie_to_us([find_binary(), "-c", str(folder / "mosquitto.conf")])
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as broker:
        try:
            program = Program(repo, umqtt_path, micropython, folder)
            assert run.split() == ["micropython", "$EXAMPLE/main.py"]
            with contextlib.ExitStack() as stack:
                stack.callback(program.kill)
                program.start()
                program.wait_line("link-up")
                program.wait_line("published")
        finally:
            broker.kill()


def _bash(script: str, environment: dict[str, str], given: str = "") -> str:
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        input=given,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
