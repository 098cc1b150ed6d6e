"""Updates of the emulated Pico W: confirmed, given up, and cut by the power at random moments.

PICO_CUTS      how many power cuts (default 3)
PICO_SEED      the number that their moments follow from, as an earlier run printed it
"""

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_kit import World
from nginx_kit import Nginx
from ota_e2e_kit import ask_until, envelope, image, order, send, until
from pico_kit import HOST, Pico, updatable_pico
from warden_host.errors import HostError
from warden_host.fleet import pki

SLOTS = 'SLOTS = ("file", "/slots", ("app",), 2)\n'


@pytest.fixture
def pico(world: World, firmware: Path, tmp_path: Path) -> Iterator[Pico]:
    made = updatable_pico(world, firmware, tmp_path, SLOTS)
    try:
        made.wait_line("version factory")
        made.wait_line("log session-stands")
        yield made
    finally:
        made.kill()


def started(pico: Pico) -> str:
    """Wait for a start with a session; the version that runs."""
    version = str(pico.wait_line("version ")["line"]).split()[1]
    pico.wait_line("log session-stands")
    return version


def test_updates(world: World, pico: Pico) -> None:
    before = pico.flash_operations()
    assert send(world, 2, image("two"))["state"] == "Testing"
    assert started(pico) == "two"
    assert until(world, "Idle")
    print("flash operations of an install:", pico.flash_operations() - before)
    # Not well: given up at once, and the one before runs again and says so.
    assert send(world, 3, image("sick", healthy=False))["state"] == "Testing"
    pico.wait_line("version sick")
    pico.wait_line("log trial-failed")
    assert started(pico) == "two"
    report = world.fleet_event("event", name="update").body
    while report["state"] != "Rejected":
        report = world.fleet_event("event", name="update").body
    assert (report["reason"], report["sequence"]) == ("trial-failed", 3)


def test_an_image_from_a_web_server(world: World, pico: Pico, tmp_path: Path) -> None:
    """A second TLS connection has room beside the agent's, and beside the slots."""
    key = pki.load_key(world.fleet.keys / "server.key")
    leaf = pki.load_ca(world.fleet.keys).issue((HOST,), key=key)
    nginx = Nginx(tmp_path / "web", leaf.certificate, leaf.key)
    data = image("two") + bytes(range(256)) * 64
    (nginx.www / "two.img").write_bytes(data)
    with nginx.running():
        made = envelope(2, data, f"https://{HOST}:{nginx.port}/two.img")
        status = order(world, envelope=made)
        assert (status["state"], status["want"]) == ("Downloading", None)
        assert started(pico) == "two"
        until(world, "Idle")
    assert len(nginx.requests()) == -(-len(data) // 16384)


def test_power_cuts(world: World, pico: Pico) -> None:
    seed = int(os.environ.get("PICO_SEED", random.randrange(1 << 30)))
    print("PICO_SEED", seed)
    moments = random.Random(seed)
    before = pico.flash_operations()
    assert send(world, 2, image("v2"))["state"] == "Testing"
    runs = started(pico)
    assert runs == "v2"
    until(world, "Idle")
    most = pico.flash_operations() - before
    number, left = 2, int(os.environ.get("PICO_CUTS", "3"))
    while left:
        number += 1
        pico.flash_operations()  # what the board has said so far is of the round before
        count, part = moments.randint(1, most), moments.random()
        pico.order(cut=count, part=part)
        install = threading.Thread(target=send_to_the_end, args=(world, number), daemon=True)
        install.start()
        if (kind := pico.wait_cut_or("log update Accepted")) is None:
            runs = f"v{number}"  # it took fewer operations than the first one
            continue
        left -= 1
        pico.start()
        found = started(pico)
        print(f"cut in {kind} {count} of {most}, {part:.0%} done: {found} starts")
        assert found in (runs, f"v{number}")
        # A trial ends by the confirmation of what runs.
        ask_until(world, lambda status: status["state"] != "Testing")
        runs = found
    number += 1
    assert send(world, number, image(f"v{number}"))["state"] == "Testing"
    assert started(pico) == f"v{number}"
    until(world, "Idle")


def send_to_the_end(world: World, number: int) -> None:
    """Send an update to a device whose power goes meanwhile."""
    try:
        send(world, number, image(f"v{number}"))
    except HostError:
        pass  # the test has ended
