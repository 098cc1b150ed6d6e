"""Count what of a device's telemetry is lost on a bad network: `make soak`, SOAK_S seconds.

A simulated device sends ten readings a second and alarms through a proxy that cuts, delays,
dribbles, falls silent and delivers late (chaos.py), to mosquitto and the authority, which are
killed and restarted meanwhile. Every event that the device was told is kept must arrive, once and
in its order.

    soak.py [SEED]
"""

import os
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [
    str(HERE),
    str(HERE.parent),
    str(HERE.parent / "e2e"),
    str(HERE.parents[1] / "tools"),
]

import fleet_kit  # noqa: E402  (the path must be set first)
from chaos import WEATHERS, Chaos  # noqa: E402
from port_kit import free_ports  # noqa: E402
from warden_host.engine.engine import Engine  # noqa: E402
from warden_host.engine.events import FleetEvent  # noqa: E402
from warden_host.engine.request import Request  # noqa: E402
from warden_host.errors import HostError  # noqa: E402

DEVICE_PROGRAM = HERE / "device" / "telemetry.py"
LIMITS = {
    "outbox": 64,
    "outbox_drop": "newest",
    "stall_ms": 2000,
    "keepalive_s": 10,
    "backoff_min_ms": 100,
    "backoff_max_ms": 2000,
}


@dataclass
class Result:
    """What a run counted. lost, twice, disordered: of what had to arrive."""

    published: int = 0
    dropped: int = 0  # and the program was told so
    delivered: int = 0
    lost: int = 0
    twice: int = 0
    disordered: int = 0
    connections: int = 0
    weather: dict[str, int] = field(default_factory=dict)

    def good(self) -> bool:
        return not (self.lost or self.twice or self.disordered) and self.delivered > 0


class Soak(fleet_kit.World):
    """A fleet of one device behind a chaotic network, and all events that its authority got."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.device_port = free_ports(1)[0]
        super().__init__(folder, device_port=self.device_port)
        self.seed = seed
        self.got: dict[str, list[int]] = {"reading": [], "alarm": []}
        self.guard = threading.Lock()

    def start_authority(self) -> None:
        super().start_authority()
        assert self.authority is not None
        self.authority.ask(self._watch)

    def _watch(self, engine: Engine) -> None:
        engine.watchers.add(self._note, "event")

    def _note(self, event: FleetEvent) -> None:
        if event.name in self.got:
            with self.guard:
                self.got[event.name].append(event.body["n"])

    def numbers(self, name: str) -> list[int]:
        with self.guard:
            return list(self.got[name])

    def run(self, seconds: float, restarts_s: float = 60.0, longest_s: float = 6.0) -> Result:
        """Let it rain for so long, then count.

        restarts_s: mean time between restarts. longest_s: that a weather lasts.
        """
        self.provision(source=DEVICE_PROGRAM, commands=("finish",), limits=LIMITS)
        plan = random.Random(self.seed)  # noqa: S311  a plan, no secret
        with (
            Chaos(self.device_port, self.port, self.seed, longest_s) as chaos,
            self,
            fleet_kit.Board(self.fleet.simulated(fleet_kit.DEVICE)) as board,
        ):
            board.wait_line("started")
            chaos.calm(False)
            end = time.monotonic() + seconds
            # Where the machine is slow, until it had each weather.
            while time.monotonic() < end or set(chaos.seen) != set(WEATHERS):
                pause = min(plan.uniform(0.5, 1.5) * restarts_s, max(0.1, end - time.monotonic()))
                time.sleep(pause)
                if time.monotonic() < end:
                    self._restart(plan.choice(("broker", "authority")))
            chaos.calm()
            counts = self._finish()
            self._settle(counts)
            lines = board.lines.all()
            return self._count(counts, lines, dict(chaos.seen))

    def _restart(self, what: str) -> None:
        if what == "broker":
            self.kill_broker()
            self.start_broker()
        else:
            self.stop_authority()
            self.start_authority()

    def _finish(self) -> dict[str, int]:
        assert self.authority is not None
        end = time.monotonic() + 180
        while True:
            # A command may be lost with its connection; it does no harm twice.
            try:
                answer = self.authority.command(
                    Request(fleet_kit.DEVICE, "finish", {}, timeout_s=5)
                )
                found: dict[str, int] = answer["reply"]["result"]
                if found["ended"]:
                    return found
                error: object = "an alarm is not delivered"
                time.sleep(0.2)
            except HostError as raised:
                error = raised
            assert time.monotonic() < end, error

    def _settle(self, counts: dict[str, int]) -> None:
        """Wait until all that is on its way has arrived, and a while longer where it has not."""
        wanted = counts["reading"] + counts["alarm"] - counts["dropped"]
        end = time.monotonic() + 90
        while len(self.numbers("reading")) + len(self.numbers("alarm")) < wanted:
            if time.monotonic() > end:
                return
            time.sleep(0.1)
        time.sleep(1)

    def _count(
        self, counts: dict[str, int], lines: Iterable[str], weather: dict[str, int]
    ) -> Result:
        dropped = {int(found[1]) for line in lines if (found := re.match(r"dropped (\d+)", line))}
        result = Result(weather=weather)
        result.connections = sum(line.startswith("log link-up") for line in lines)
        result.dropped = len(dropped)
        for name, gone in (("reading", dropped), ("alarm", set[int]())):
            wanted = [number for number in range(counts[name]) if number not in gone]
            got = self.numbers(name)
            result.published += counts[name]
            result.delivered += len(set(got))
            result.lost += len(set(wanted) - set(got))
            result.twice += len(got) - len(set(got))
            result.disordered += sum(b < a for a, b in zip(got, got[1:], strict=False))
        return result


def main() -> int:
    seconds = float(os.environ.get("SOAK_S", "900"))
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        result = Soak(Path(folder), seed).run(seconds)
    for name, value in vars(result).items():
        print(f"{name:12} {value}")
    print("nothing was lost" if result.good() else "FAILED")
    return 0 if result.good() else 1


if __name__ == "__main__":
    sys.exit(main())
