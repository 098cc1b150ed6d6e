"""A RabbitMQ of a test's own: Debian's program, with its node, ports and data in a folder.

It listens on 127.0.0.1 alone, and ends with the process that started it.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from port_kit import free_ports
from process_kit import PATIENCE_S

PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"
MISSING = "RabbitMQ is not installed: on Debian, apt install rabbitmq-server"
EXAMPLE = Path(__file__).parents[2] / "examples" / "rabbitmq"
ADMIN, PASSWORD = "admin", "only in this test"  # noqa: S105


def is_there() -> bool:
    return Path(PROGRAM).is_file() and shutil.which("epmd") is not None


@dataclass
class RabbitMQ:
    """port: MQTT over TLS. management_port: the HTTP API, without TLS."""

    folder: Path
    port: int
    management_port: int

    def api(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """Return the answer of the management API."""
        manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        manager.add_password(None, f"http://127.0.0.1:{self.management_port}/", ADMIN, PASSWORD)
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.management_port}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        with opener.open(request, timeout=PATIENCE_S) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def log(self) -> str:
        return "".join(path.read_text(errors="replace") for path in self.folder.glob("log/*.log"))


@contextlib.contextmanager
def running(
    folder: Path,
    keys: Path,
    public_key: Path,
    users: dict[str, bytes],
    port: int,
    more: str = "",
) -> Iterator[RabbitMQ]:
    """Run a broker with the example's configuration, and more lines behind it.

    keys: with ca.crt, server.crt and server.key. public_key: PEM of the key that signs tokens.
    users: user name → password, any bytes; with all rights for topics.
    """
    dist, epmd_port, management = free_ports(3)
    for name in ("mnesia", "log"):
        (folder / name).mkdir(parents=True)
    text = (EXAMPLE / "rabbitmq.conf").read_text()
    changes = {
        "mqtt.listeners.ssl.1 = 0.0.0.0:8883": f"mqtt.listeners.ssl.1 = 127.0.0.1:{port}",
        "/etc/warden/": f"{keys}/",
        "/etc/rabbitmq/token.pub": str(public_key),
        "management.tcp.port = 15672": f"management.tcp.port = {management}",
        "/etc/rabbitmq/definitions.json": str(folder / "definitions.json"),
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    (folder / "rabbitmq.conf").write_text(text + more.replace("/etc/warden/", f"{keys}/"))
    advanced = (EXAMPLE / "advanced.config").read_text()
    (folder / "advanced.config").write_text(advanced)
    (folder / "enabled_plugins").write_text((EXAMPLE / "enabled_plugins").read_text())
    (folder / "definitions.json").write_text(json.dumps(definitions(users)))
    environment = os.environ | {
        "HOME": str(folder),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_NODENAME": f"warden{port}@localhost",
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_DIST_PORT": str(dist),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    with contextlib.ExitStack() as stack:
        # Of our own: the node would start one that outlives it.
        epmd = ["epmd", "-port", str(epmd_port), "-address", "127.0.0.1"]
        stack.enter_context(_child(epmd, environment, folder / "epmd.out"))
        _wait(lambda: _answers(epmd_port), "epmd")
        server = stack.enter_context(_child([PROGRAM], environment, folder / "server.out"))
        made = RabbitMQ(folder, port, management)

        def ready() -> bool:
            assert server.poll() is None, (folder / "server.out").read_text()
            return _answers(port) and "Server startup complete" in made.log()

        _wait(ready, "RabbitMQ")
        yield made


def definitions(users: dict[str, bytes]) -> dict[str, Any]:
    """Return the file of definitions: users by the hash of their passwords (any bytes)."""
    import base64
    import hashlib

    everything = {"configure": ".*", "write": ".*", "read": ".*", "vhost": "/"}
    made = []
    for name, password in {**users, ADMIN: PASSWORD.encode()}.items():
        salt = os.urandom(4)
        digest = salt + hashlib.sha256(salt + password).digest()
        made.append(
            {
                "name": name,
                "password_hash": base64.b64encode(digest).decode(),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": "administrator" if name == ADMIN else "",
            }
        )
    return {
        "vhosts": [{"name": "/"}],
        "users": made,
        "permissions": [everything | {"user": user["name"]} for user in made],
    }


@contextlib.contextmanager
def _child(argv: list[str], environment: dict[str, str], out: Path) -> Iterator[Any]:
    with out.open("wb") as file:
        child = subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # the program is a script, with the server as its child
        )
        try:
            yield child
        finally:
            # A test's data goes with its folder: nothing is lost by an end without a farewell.
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _wait(holds: Any, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"no {what}"
        time.sleep(0.05)


def context(keys: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(keys / "ca.crt"))
