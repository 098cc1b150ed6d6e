"""Processes of a benchmark: authority, devices, others at the same broker."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from live_kit import LiveDevice
from warden_host.fleet.fleet import Fleet


class Role:
    """One of the processes: do(number) has it work and returns its figures.

    script: the file that is run as `script role fleet password…`. began: its first figures.
    """

    def __init__(self, script: str, role: str, fleet: Fleet, *passwords: str) -> None:
        command = [sys.executable, script, role, str(fleet.root), *passwords]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.began = self._read()

    def do(self, count: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(count, file=self._process.stdin, flush=True)
        return self._read()

    def cpu(self, count: int) -> float:
        """Have it work; return the seconds of CPU that it took."""
        before: float = self.do(0)["cpu"]
        took: float = self.do(count)["cpu"] - before
        return took

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of the bench ended with {self._process.wait()}")
        figures: dict[str, Any] = json.loads(line)
        return figures

    def __enter__(self) -> "Role":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve_role(work: Callable[[int], dict[str, object]], **began: object) -> None:
    """Answer each number on standard input with the figures that its work gave."""
    print(json.dumps(began), flush=True)
    for line in sys.stdin:
        print(json.dumps(work(int(line))), flush=True)


class BenchDevice(LiveDevice):
    """A device that ignores wakes: its first hello is on its way."""

    def on_message(self, client: object, data: object, message: mqtt.MQTTMessage) -> None:
        if "/wake/" not in message.topic:
            super().on_message(client, data, message)
