"""A certificate, an outbox and deep sleep on the emulated Pico W, against mosquitto itself.

No TLS end of the test's own stands before the broker: it asks for the device's certificate.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_kit import DEVICE, World, with_certificates
from pico_kit import HERE, HOST, PATIENCE_S, Pico, provision_pico
from warden_host.devices.first_certificate import CertificateOrder
from warden_host.engine.request import Request

APP = HERE / "device" / "napping.py"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("server_kit.PATIENCE_S", PATIENCE_S)
    with with_certificates(World(tmp_path, host=HOST, patience_s=PATIENCE_S)) as world:
        yield world


@pytest.fixture
def pico(served: World, firmware: Path) -> Iterator[Pico]:
    made = provision_pico(
        served, firmware, APP, limits={"outbox": 8}, certificate=CertificateOrder("ec", 365)
    )
    try:
        yield made
    finally:
        made.kill()


def presence(world: World) -> str:
    assert world.authority is not None
    return str(world.authority.ask(lambda engine: engine.presences()[DEVICE][0]))


def stored(world: World) -> None:
    """Wait until the authority has stored a reading."""
    assert world.fleet_event("event", name="reading").body == {"c": 20}


def test_a_certificate_an_outbox_and_a_sleep(served: World, pico: Pico) -> None:
    pico.wait_line("log session-stands")
    stored(served)
    pico.wait_line("fate delivered")
    assert served.command("set_relay", on=1) == {"on": 1}
    print("C stack:", pico.stack_peak(), "bytes")
    assert served.command("set_relay", on=0) == {"on": 0}
    pico.wait_line("sleeps")
    served.fleet_event("left", text="it sleeps for 5 s")
    assert presence(served) == "asleep"
    assert served.authority is not None
    held = Request(DEVICE, "set_relay", {"on": 1}, ttl_s=3600, hold=True)
    assert served.authority.command(held)["held"] is True
    # An RP2040 wakes up as from a reset: a session of its own, and what waited for it.
    pico.wait_line("log session-stands")
    pico.wait_lines("relay 1", "fate delivered")
    stored(served)
    assert presence(served) == "online"
