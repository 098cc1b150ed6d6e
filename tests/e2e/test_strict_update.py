"""An encrypted update under a strict policy on the real firmware: a real signature at each start,
until its key is taken away."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import suit_kit as kit
from cryptography.hazmat.primitives.asymmetric import ec
from fleet_kit import DEVICE, PATIENCE_S, TYPE, Board, World
from ota_e2e_kit import KEY, image, manifest, order, restarted, send_rest, until, updatable
from warden_host.engine.request import Request
from warden_host.names import AUTHORITY, Address
from warden_host.release import payload
from warden_host.store.store import Store

OTHER = ec.derive_private_key(0x1234567, ec.SECP256R1())


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    with updatable(tmp_path, strict=True) as made:
        yield made


def encrypted(world: World, number: int, data: bytes, content: bytes) -> dict[str, Any]:
    """What the authority's order holds."""
    made = manifest(number, data, {19: payload.encryption_info(content)})
    digest = kit.sha256(kit.pack(kit.pack(made)))
    with Store(world.fleet.database) as store:
        (pair,) = [one for one in store.device(DEVICE).pairs if one.appid == AUTHORITY]
    key = payload.wrap(content, pair.k, Address(TYPE, DEVICE, AUTHORITY), digest)
    return {"envelope": kit.envelope(made, kit.ecdsa(KEY)), "key": key}


def test_encrypted_and_strict(world: World) -> None:
    home = world.fleet.simulated(DEVICE)
    two, content = image("two"), bytes(range(32))
    made = payload.encrypt(content, 2, "app", len(two), kit.sha256(two), io.BytesIO(two))
    sealed = b"".join(made)
    with Board(home) as board:
        board.wait_line("version factory")
        board.wait_line("log session-stands")
        world.fleet_event("session", app=AUTHORITY)
        args = encrypted(world, 2, two, content)
        assert order(world, envelope=args["envelope"]) == "payload-key"
        wrong = args["key"][:-1] + bytes([args["key"][-1] ^ 1])
        assert order(world, envelope=args["envelope"], key=wrong) == "payload-key"
        status = order(world, **args)
        assert status["want"] == [0, "app", 0, 1024]
        assert order(world, n=0, data=two[:1024]) == "payload-tampered"
        status = order(world, **args)
        assert send_rest(world, status, sealed)["state"] == "Testing"
        # Each start verifies the signature, with the very code that judged it before.
        restarted(board, "two")
        until(world, "Idle")
        assert (home / "root" / "slots" / "app.0").read_bytes() == two
        board.kill()
        board.start()
        board.wait_line("version two")
        board.wait_line("log session-stands")
        # The key is taken away: what it signed does not start any more, and the agent says so.
        (home / "root" / "release.cbor").unlink()
        body = {"id": 1, "release": [kit.VENDOR, kit.CLASS, [kit.public_of(OTHER)]]}
        assert world.authority is not None
        request = Request(DEVICE, "rotate", body, app=AUTHORITY, timeout_s=PATIENCE_S)
        assert world.authority.command(request)["ok"]
        board.kill()
        board.start()
        board.wait_line("recovery")
        board.wait_line("session-stands")
        while (report := world.fleet_event("event", name="update").body)["state"] != "Recovery":
            pass
        assert (report["reason"], report["sequence"]) == ("slot-unsigned", 2)
