"""Updates over the sealed link to the real firmware: manifests by cbor2 and cryptography, images by mpremote, starts by the real boot.py."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fleet_kit import DEVICE, Board, World
from mpremote.romfs import VfsRomWriter
from warden_host.names import AUTHORITY
from warden_host.sending import Request

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "host"))

import suit_kit as kit  # noqa: E402  (the path must be set first)

APP = Path(__file__).parent / "device" / "updatable.py"
KEY = ec.derive_private_key(0x7654321, ec.SECP256R1())


def image(version: str, healthy: bool = True) -> bytes:
    source = APP.read_text().replace(
        '"factory"\nHEALTHY = True', f'"{version}"\nHEALTHY = {healthy}'
    )
    assert version in source
    writer = VfsRomWriter()
    writer.mkfile("app.py", source.encode())
    writer.mkfile("filler.bin", bytes(range(256)) * 40)
    return writer.finalise()


def envelope(number: int, data: bytes) -> bytes:
    common = kit.sequence(20, kit.device_parameters() | kit.image_parameters(data), 1, 15, 2, 15)
    return kit.envelope(kit.manifest(number, shared=common), kit.ecdsa(KEY))


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    home = made.provision(source=APP)
    with (home / "root" / "lib" / "board.py").open("a") as file:
        file.write('\nSLOTS = ("file", "/slots", ("app",), 2)\n')
    release = [kit.VENDOR, kit.CLASS, [kit.public_of(KEY)]]
    (home / "root" / "release.cbor").write_bytes(cbor2.dumps(release, canonical=True))
    with made:
        yield made


def order(world: World, **args: Any) -> Any:
    """The status, or the code of the refusal."""
    assert world.authority is not None
    request = Request(DEVICE, "update", args, app=AUTHORITY, timeout_s=30)
    answer = world.authority.command(request)
    reply = answer["reply"]
    return reply["result"] if answer["ok"] else reply["error"]


def send(world: World, number: int, data: bytes) -> Any:
    status = order(world, envelope=envelope(number, data))
    while isinstance(status, dict) and status["want"] is not None:
        n, _, at, length = status["want"]
        status = order(world, n=n, data=data[at : at + length])
    return status


def restarted(board: Board, version: str) -> None:
    """The board ended by itself, as one that starts anew does; power on again."""
    assert board.process is not None
    assert board.process.wait(60) == 3
    board.start()
    board.says("version " + version)
    board.says("log session-stands")


def test_updates_over_the_air(world: World) -> None:
    home = world.fleet.simulated(DEVICE)
    with Board(home) as board:
        board.says("version factory")
        board.says("log session-stands")
        world.happening("session", app=AUTHORITY)
        two, sick, four = image("two"), image("sick", healthy=False), image("four")
        assert order(world)["state"] == "Idle"

        # Rolled out, tried, confirmed.
        assert send(world, 2, two)["state"] == "Testing"
        restarted(board, "two")
        assert world.happening("event", name="update").body["state"] in ("Testing", "Accepted")
        while order(world)["state"] != "Idle":
            pass

        # An old one, a tampered one and one of another key are refused; what runs goes on.
        assert send(world, 2, two) == "old-manifest"
        changed = bytearray(envelope(3, sick))
        changed[-20] ^= 1
        assert order(world, envelope=bytes(changed)) == "suit-digest"
        assert order(world)["state"] == "Rejected"

        # Not well: given up at once, and the one before runs again and says so.
        assert send(world, 3, sick)["state"] == "Testing"
        assert board.process is not None
        assert board.process.wait(60) == 3
        board.start()
        board.says("version sick")
        board.says("log trial-failed")
        restarted(board, "two")
        reports = world.happening("event", name="update").body
        while reports["state"] != "Rejected":
            reports = world.happening("event", name="update").body
        assert (reports["reason"], reports["sequence"]) == ("trial-failed", 3)

        # Cut in the middle, by a power cut; it goes on and comes through.
        status = order(world, envelope=envelope(4, four))
        while status["want"][2] < len(four) - 2048:
            n, _, at, length = status["want"]
            status = order(world, n=n, data=four[at : at + length])
        board.kill()
        board.start()
        board.says("version two")
        board.says("log session-stands")
        status = order(world, envelope=envelope(4, four))
        assert status["want"][2] > len(four) // 3
        assert send_rest(world, status, four)["state"] == "Testing"
        restarted(board, "four")

        # Both slots changed behind its back: the agent alone starts, says so, and takes an update.
        while order(world)["state"] != "Idle":
            pass
        board.kill()
        for name in ("app.0.map", "app.1.map", "app.map.0", "app.map.1"):
            path = home / "root" / "slots" / name
            if path.exists():
                path.write_bytes(b"x" + path.read_bytes()[1:])
        board.start()
        board.says("recovery")
        while world.happening("event", name="update").body["state"] != "Recovery":
            pass
        assert send(world, 5, image("five"))["state"] == "Testing"
        restarted(board, "five")


def send_rest(world: World, status: Any, data: bytes) -> Any:
    while status["want"] is not None:
        n, _, at, length = status["want"]
        status = order(world, n=n, data=data[at : at + length])
    return status
