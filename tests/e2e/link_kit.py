"""Runs tests/e2e/device/drive.py: the device's Client and Link in a process of their own."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from process_kit import PATIENCE_S

# What the device waits on a peer that owes something. Refusals come long before, on a slow machine
# as well.
HANDSHAKE_MS = 300000
STALL_MS = 120000


@dataclass
class Driver:
    """call() gives what the device says: connected, messages, longest (the most without a tick
    between), now, mark, and for each connection codes, ticks, free (bytes of heap after it), files
    (that are open then)."""

    micropython: str
    lib: Path
    umqtt: Path
    folder: Path
    cas: Sequence[bytes] = ()
    pins: Sequence[bytes] = ()
    prefix: Sequence[str] = ()
    environment: dict[str, str] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __call__(self, port: int, **settings: Any) -> dict[str, Any]:
        config: dict[str, Any] = {
            "lib": str(self.lib),
            "umqtt": str(self.umqtt),
            "host": "127.0.0.1",
            "port": port,
            "cas": [ca.hex() for ca in settings.pop("cas", self.cas)],
            "pins": [pin.hex() for pin in settings.pop("pins", self.pins)],
            "user": b"u".hex(),
            "password": b"p".hex(),
            "client_id": "drive",
            "handshake_ms": HANDSHAKE_MS,
            "stall_ms": STALL_MS,
            "keepalive_s": 60,
            "max_packet": 2048,
            "topics": [],
            "publish": [],
            "flood": False,
            "pump": True,
            "times": 1,
            "tick_ms": 10,
            "floor": 0,
            "clock": None,
        }
        unknown = set(settings) - set(config)
        assert not unknown, unknown
        path = self.folder / "config.json"
        path.write_text(json.dumps(config | self.settings | settings))
        script = Path(__file__).parent / "device" / "drive.py"
        done = subprocess.run(
            [*self.prefix, self.micropython, "-X", "heapsize=4m", str(script), str(path)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=self.environment,
            check=False,
        )
        lines = done.stdout.splitlines()
        assert done.returncode == 0 and lines, done.stdout + done.stderr
        result: dict[str, Any] = json.loads(lines[-1])
        return result

    def code(self, port: int, **settings: Any) -> str:
        """The error code of connecting once; "" when the log-in was answered, which ends it."""
        (code,) = self(port, pump=False, **settings)["codes"]
        return str(code)
