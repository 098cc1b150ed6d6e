"""The way of a bare Pico W over its serial port, as `warden provision --port` goes it."""

import json
import time
from pathlib import Path

import pytest
import server_kit
from board_kit import STEPS, Seen, provision_board
from fleet_kit import World, forwarding, leaf
from pico_kit import HOST, NETWORK, PATIENCE_S, Pico, build_image
from port_kit import free_ports

# The emulator takes tens of seconds for one of the chip's.
PATIENCE = 60.0
BUILD = Path(__file__).parents[2] / "build" / "pico"


class Timed(Seen):
    """Prints each step with the time that it took here."""

    def begin(self, step: str, text: str) -> None:
        self._began = time.monotonic()
        super().begin(step, text)

    def end(self, text: str) -> None:
        super().end(text)
        print(f"{self.steps[-1]:10} {time.monotonic() - self._began:6.1f} s  {text}", flush=True)


def test_a_bare_pico_becomes_a_device(
    tmp_path: Path, firmware: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_kit, "PATIENCE_S", PATIENCE_S)
    (tmp_path / "root").mkdir()
    image = build_image(tmp_path / "root", tmp_path / "flash.littlefs")
    (port,) = free_ports(1)
    with World(tmp_path, device_port=port, host=HOST) as world, Pico(firmware, image) as pico:
        seen = Timed()
        # The broker itself would drop a client that needs 90 s.
        with forwarding(world, leaf(world, tmp_path), port):
            outcome = provision_board(
                world,
                pico.port(),
                seen,
                patience=PATIENCE,
                board="RPI_PICO_W",
                networks=(NETWORK,),
                limits={"keepalive_s": 3600},
            )
            assert seen.steps == list(STEPS)
            assert outcome.connected and outcome.session
            assert outcome.facts.architecture == "armv6m"
            assert world.command("set_relay", on=1) == {"on": 1}
        BUILD.mkdir(parents=True, exist_ok=True)
        (BUILD / "provision.json").write_text(json.dumps(seen.texts, indent=1))
