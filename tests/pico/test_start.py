"""Start the emulated Pico W, by the chip's own clock; then send a command and each forgery.

The figures go to build/pico/FORM.json, as rows of `make bench`. FROZEN=file.uf2 names a firmware
that was built with boards/RPI_PICO_W/manifest.py, for the third form.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from fleet_kit import DEVICE, World
from pico_kit import PATIENCE_S, Mark, Pico, Row, provision_pico, write_rows
from warden_host.engine.request import FORGERIES, Request


class Limits(NamedTuple):
    """What a start should take at most, and leave at least."""

    begun_ms: int
    tls_ms: int
    session_ms: int
    begun: int | None
    up: int
    largest: int


APP = Path(__file__).parent / "device" / "marking.py"
FORMS = {
    "plain": "",
    "slots": 'SLOTS = ("file", "/slots", ("app",), 2)\n',
    "frozen": "",
}
LIMITS = {
    "plain": Limits(832, 1872, 3350, begun=135_000, up=108_000, largest=75_000),
    "slots": Limits(1300, 2304, 4600, begun=None, up=95_000, largest=65_000),
    "frozen": Limits(750, 1872, 3350, begun=166_000, up=140_000, largest=75_000),
}
# Bytes of the C stack, which has 8,192. Wanted of a start and of commands, and whatever comes in;
# and the most: 4,830 where the firmware's network interrupts may come, which take up to 1,100 more
# (mDNS) and come at any of them.
STACK, STACK_ANY, STACK_MOST = 5500, 6500, 6000
NORMAL = ("start", "command", "long")
STEPS = ["built", "begun", "wifi", "tcp", "tls", "link-up", "session-stands", "started"]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pico(world: World, firmware: Path, form: str) -> Iterator[Pico]:
    if frozen := form == "frozen":
        if "FROZEN" not in os.environ:
            pytest.skip("FROZEN=file.uf2 names a firmware with Warden in it")
        firmware = Path(os.environ["FROZEN"]).resolve()
    made = provision_pico(world, firmware, APP, FORMS[form], frozen=frozen)
    try:
        yield made
    finally:
        made.kill()


def test_start_and_obey(world: World, pico: Pico, form: str, repo: Path) -> None:
    marks = first_connection(pico)
    variable = "FROZEN" if form == "frozen" else "FIRMWARE"
    write_rows(repo / "build" / "pico" / f"{form}.json", list(rows(form, marks)), variable)
    peaks = {"start": pico.stack_peak()}
    assert world.fleet_event("event", name="temperature").body == {"c": 20}
    assert world.command("set_relay", on=1) == {"on": 1}
    peaks["command"] = pico.stack_peak()
    nested: object = 1
    for _ in range(5):  # the deepest that a command's body may be
        nested = [nested]
    assert world.command("set_relay", on=1, nested=nested) == {"on": 1}
    peaks["nested"] = pico.stack_peak()
    # Above a workspace of AES-CCM: loads code, below all that a command is received by.
    assert world.command("set_relay", on=1, text="x" * 600) == {"on": 1}
    peaks["long"] = pico.stack_peak()
    assert world.authority is not None
    for forgery, code in FORGERIES.items():
        request = Request(DEVICE, "set_relay", {"on": 0}, timeout_s=PATIENCE_S, forge=forgery)
        answer = world.authority.command(request)
        assert answer["ok"] and answer["verdict"] == code, answer
        peaks[forgery] = pico.stack_peak()
    deepest = max(peaks.values())
    write_rows(
        repo / "build" / "pico" / f"stack-{form}.json",
        [
            Row(
                f"{form}: C stack, start and commands",
                max(peaks[name] for name in NORMAL),
                "bytes",
                most=STACK,
            ),
            Row(
                f"{form}: C stack, forged and nested commands too",
                deepest,
                "bytes",
                most=STACK_ANY,
            ),
        ],
        variable,
    )
    # Beyond its 8,192 bytes the C stack of this chip runs into the heap, without an error.
    assert deepest <= STACK_MOST, peaks


def first_connection(pico: Pico) -> list[Mark]:
    """Return the marks of a start whose first connection stood.

    A busy machine may lose one: the board waits for seconds of its own clock, which does not go
    slower while its peers on this machine wait for the processor.
    """
    for _ in range(3):
        marks = pico.marks("started")
        if [mark.name for mark in marks] == STEPS:
            return marks
        pico.stop()
        pico.start()
    raise AssertionError(marks)


def rows(form: str, marks: list[Mark]) -> Iterator[Row]:
    """Yield the figures of a start."""
    at = {mark.name: mark for mark in marks}
    limits = LIMITS[form]
    begun, up = at["begun"], at["session-stands"]
    yield Row(f"{form}: reset to agent begun", begun.ms, "ms", most=limits.begun_ms)
    yield Row(f"{form}: TLS", at["tls"].ms - at["tcp"].ms, "ms", most=limits.tls_ms)
    yield Row(f"{form}: reset to session", up.ms, "ms", most=limits.session_ms)
    for mark, least in ((begun, limits.begun), (up, limits.up)):
        yield Row(f"{form}: free at {mark.name}", mark.free, "bytes", least=least)
    for mark, least in ((begun, None), (up, limits.largest)):
        yield Row(f"{form}: largest piece at {mark.name}", mark.largest, "bytes", least=least)
