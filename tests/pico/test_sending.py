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
        (sealed, sealed_bytes), (plain, plain_bytes), (collection, threshold) = (
            [int(word) for word in pico.wait_line(f"{name} ")["line"].split()[1:]]
            for name in ("sealed", "plain", "collection")
        )
    finally:
        pico.kill()
    rate = 100 * plain / sealed

    # The share of a collection that a call's garbage brings about.
    def whole(microseconds: int, garbage: int) -> float:
        return microseconds + collection * garbage / threshold

    with_garbage = 100 * whole(plain, plain_bytes) / whole(sealed, sealed_bytes)
    write_rows(
        repo / "build" / "pico" / "sending.json",
        [
            Row("event of 64 bytes, sealed, QoS 0", sealed / 1000, "ms"),
            Row("event of 64 bytes, umqtt.simple", plain / 1000, "ms"),
            Row("garbage of a sealed event", sealed_bytes, "bytes"),
            Row("garbage of umqtt.simple's", plain_bytes, "bytes"),
            Row("a collection", collection / 1000, "ms"),
            Row("sealed events", rate, "% of umqtt.simple's rate", least=75),
            Row("sealed events, with collections", with_garbage, "% of umqtt.simple's rate"),
        ],
    )
