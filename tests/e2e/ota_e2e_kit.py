"""What the tests of updates over a real link share: a fleet whose boards have slots, images,
manifests, and the authority's orders."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cbor2
import suit_kit as kit
from cryptography.hazmat.primitives.asymmetric import ec
from fleet_kit import DEVICE, PATIENCE_S, Board, World
from mpremote.romfs import VfsRomWriter
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.names import AUTHORITY

APP = Path(__file__).parent / "device" / "updatable.py"
# The release key of these fleets.
KEY = ec.derive_private_key(0x7654321, ec.SECP256R1())
# Without a reply for so long, a question counts as lost.
_LOST_S = 60.0


@contextmanager
def updatable(folder: Path, **settings: Any) -> Iterator[World]:
    """A running fleet with one device that has two slots and trusts KEY; settings are the
    policy's."""
    made = World(folder)
    home = made.provision(source=APP, **settings)
    with (home / "root" / "lib" / "board.py").open("a") as file:
        file.write('\nSLOTS = ("file", "/slots", ("app",), 2)\n')
    release = [kit.VENDOR, kit.CLASS, [kit.public_of(KEY)]]
    (home / "root" / "release.cbor").write_bytes(cbor2.dumps(release, canonical=True))
    with made:
        yield made


def image(version: str, healthy: bool = True) -> bytes:
    source = APP.read_text().replace(
        '"factory"\nHEALTHY = True', f'"{version}"\nHEALTHY = {healthy}'
    )
    assert version in source
    writer = VfsRomWriter()
    writer.mkfile("app.py", source.encode())
    writer.mkfile("filler.bin", bytes(range(256)) * 40)
    return writer.finalise()


def manifest(number: int, data: bytes, more: dict[int, Any] | None = None, **members: Any) -> Any:
    """The manifest of sequence `number` for this image; more: further parameters of it."""
    parameters = kit.device_parameters() | kit.image_parameters(data) | (more or {})
    return kit.manifest(number, shared=kit.sequence(20, parameters, 1, 15, 2, 15), **members)


def envelope(number: int, data: bytes, uri: str = "") -> bytes:
    """Signed by KEY; uri: where a device that fetches its images itself finds this one."""
    install = {"install": kit.install(uri=uri)} if uri else {}
    return kit.envelope(manifest(number, data, **install), kit.ecdsa(KEY))


def order(world: World, timeout_s: float | None = None, **args: Any) -> Any:
    """The status, or the code of the refusal. timeout_s: PATIENCE_S without one."""
    assert world.authority is not None
    timeout_s = timeout_s or PATIENCE_S
    request = Request(DEVICE, "update", args, app=AUTHORITY, timeout_s=timeout_s)
    answer = world.authority.command(request)
    reply = answer["reply"]
    return reply["result"] if answer["ok"] else reply["error"]


def send(world: World, number: int, data: bytes) -> Any:
    """Order an update and send its image; the last status, or the code of a refusal.

    A board whose heap has no room to verify the manifest says "Downloading" and wants nothing: it
    verifies it at its next start, and wants the image then.
    """
    status = order(world, envelope=envelope(number, data))
    if isinstance(status, dict) and status["state"] == "Downloading" and not status["want"]:
        status = ask_until(
            world, lambda status: status["want"] or status["state"] != "Downloading"
        )
    return send_rest(world, status, data)


def send_rest(world: World, status: Any, data: bytes) -> Any:
    """Send the chunks that the device still wants of an image; its last status, or the code of a
    refusal."""
    while isinstance(status, dict) and status["want"] is not None:
        n, _, at, length = status["want"]
        status = order(world, n=n, data=data[at : at + length])
    return status


def until(world: World, state: str) -> Any:
    """Ask until the update is in this state; the status then."""
    return ask_until(world, lambda status: status["state"] == state)


def ask_until(world: World, wanted: Callable[[Any], Any]) -> Any:
    """Ask for the status of the update until it is a wanted one.

    A question that meets a device as it starts anew is lost with its session: it is asked again.
    """
    deadline = time.monotonic() + PATIENCE_S
    status = None
    while time.monotonic() < deadline:
        try:
            status = order(world, timeout_s=_LOST_S)
        except HostError as error:
            if error.code not in ("timed-out", "no-session"):
                raise
            continue
        if wanted(status):
            return status
    raise AssertionError(status)


def restarted(board: Board, version: str) -> None:
    """The board ended by itself, as one that starts anew does; power on again."""
    assert board.ends() == 3
    board.start()
    board.wait_line("version " + version)
    board.wait_line("log session-stands")
