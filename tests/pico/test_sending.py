"""Time an event on the emulated Pico W, sealed and as umqtt.simple sends it, over the same TLS.

The figures go to build/pico/sending.json, as rows of `make bench`.
"""

from pathlib import Path

from fleet_kit import World
from pico_kit import Row, provision_pico, write_rows

APP = Path(__file__).parent / "device" / "sending.py"


def test_sending(world: World, firmware: Path, repo: Path) -> None:
    pico = provision_pico(world, firmware, APP)
    try:
        sealed, plain = (
            int(pico.wait_line(f"{name} ")["line"].split()[1]) for name in ("sealed", "plain")
        )
    finally:
        pico.kill()
    rate = 100 * plain / sealed
    write_rows(
        repo / "build" / "pico" / "sending.json",
        [
            Row("event of 64 bytes, sealed, QoS 0", sealed / 1000, "ms"),
            Row("event of 64 bytes, umqtt.simple", plain / 1000, "ms"),
            Row("sealed events", rate, "% of umqtt.simple's rate", least=75),
        ],
    )
