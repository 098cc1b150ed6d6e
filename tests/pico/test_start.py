"""Start the emulated Pico W, by the chip's own clock; then send a command and each forgery.

The figures go to build/pico/FORM.json, for `make bench` and for people.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import server_kit
from fleet_kit import DEVICE, World, forwarding, free_ports, leaf
from pico_kit import HOST, PATIENCE_S, Mark, Pico, provision_pico
from warden_host.engine.request import FORGERIES, Request

APP = Path(__file__).parent / "device" / "marking.py"
FORMS = {
    "plain": "",
    "slots": 'SLOTS = ("file", "/slots", ("app",), 2)\n',
}
STEPS = ["built", "begun", "wifi", "tcp", "tls", "link-up", "session-stands"]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Yield a fleet with TLS before the broker, which drops clients that need 90 s."""
    monkeypatch.setattr(server_kit, "PATIENCE_S", PATIENCE_S)
    (port,) = free_ports(1)
    with World(tmp_path, device_port=port, host=HOST) as made:
        with forwarding(made, leaf(made, tmp_path), port):
            yield made


@pytest.fixture
def pico(world: World, firmware: Path, form: str) -> Iterator[Pico]:
    made = provision_pico(world, firmware, APP, FORMS[form])
    try:
        yield made
    finally:
        made.kill()


def test_start_and_obey(world: World, pico: Pico, form: str, repo: Path) -> None:
    marks = pico.marks("session-stands")
    write_figures(repo / "build" / "pico" / f"{form}.json", marks)
    assert [mark.name for mark in marks] == STEPS
    assert world.fleet_event("event", name="temperature").body == {"c": 20}
    assert world.command("set_relay", on=1) == {"on": 1}
    assert world.authority is not None
    for forgery, code in FORGERIES.items():
        request = Request(DEVICE, "set_relay", {"on": 0}, timeout_s=PATIENCE_S, forge=forgery)
        answer = world.authority.command(request)
        assert answer["ok"] and answer["verdict"] == code, answer


def write_figures(path: Path, marks: list[Mark]) -> None:
    """Print the figures of a start, and write them down."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([vars(mark) for mark in marks], indent=1))
    for mark in marks:
        print(f"{mark.name:16} {mark.ms:8.0f} ms {mark.free:8,} B free {mark.largest:8,} largest")
