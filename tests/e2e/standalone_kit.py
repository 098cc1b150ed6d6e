"""The programs of examples/standalone on the unix port: a vault of their own, any broker."""

import json
import os
import subprocess
from pathlib import Path

from fleet_kit import Board, Journal
from process_kit import PATIENCE_S
from warden_host.fleet import pki

HOST = "127.0.0.1"


class Program(Board):
    """main.py in a folder; start(), kill() and wait_line() as of a board."""

    def __init__(self, repo: Path, umqtt: Path, micropython: str, folder: Path) -> None:
        self.lines = Journal()
        self.process = None
        self._example = repo / "examples" / "standalone"
        self._folder, self._micropython = folder, micropython
        path = f"{repo / 'lib'}:{umqtt}:.frozen"
        self._environment = os.environ | {"MICROPYPATH": path}
        self._argv = self._command("main.py")

    def _command(self, name: str) -> list[str]:
        return ["env", "-C", str(self._folder), self._micropython, str(self._example / name)]

    def provision(
        self,
        port: int,
        user: bytes | None,
        password: bytes | None,
        cas: list[bytes],
        pins: list[bytes],
        client_id: str = "porch",
    ) -> None:
        """Run provision.py, which gets all by its standard input."""
        given = {
            "host": HOST,
            "port": port,
            "client_id": client_id,
            "user": None if user is None else user.hex(),
            "password": None if password is None else password.hex(),
            "cas": [ca.hex() for ca in cas],
            "pins": [pin.hex() for pin in pins],
        }
        done = subprocess.run(
            self._command("provision.py"),
            input=json.dumps(given) + "\n",
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.stdout.splitlines()[-1] == "stored", done.stdout + done.stderr


def keys(folder: Path) -> tuple[bytes, list[bytes]]:
    """Write ca.crt, server.crt and server.key of a broker; return its CA (DER) and two pins."""
    authority = pki.new_ca("The broker's CA")
    leaf = authority.issue((HOST,))
    folder.mkdir()
    for name, data in (
        ("ca.crt", authority.pem()),
        ("server.crt", leaf.certificate_pem()),
        ("server.key", leaf.key_pem()),
    ):
        (folder / name).write_bytes(data)
    return authority.der(), [pki.pin(leaf.key), pki.pin(pki.new_key())]
