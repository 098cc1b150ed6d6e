"""Images from a real nginx to the real firmware: ranges over a pinned connection, and the authority's chunks where the web server is not to be had."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import serialization
from fleet_kit import DEVICE, Board, World
from nginx_kit import Nginx
from servers import HOST
from test_update import APP, KEY, image, order, restarted, send_rest
from warden_host import pki

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "host"))

import suit_kit as kit  # noqa: E402  (the path must be set first)


def envelope(number: int, data: bytes, uri: str) -> bytes:
    common = kit.sequence(20, kit.device_parameters() | kit.image_parameters(data), 1, 15, 2, 15)
    made = kit.manifest(number, shared=common, install=kit.install(uri=uri))
    return kit.envelope(made, kit.ecdsa(KEY))


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


def pin(key: Any) -> bytes:
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).digest()


def web(world: World, folder: Path, own_key: bool = False, **settings: int) -> tuple[Nginx, Any]:
    """nginx with a certificate of the fleet's CA: for the broker's key, or for one of its own."""
    key = None if own_key else pki.load_key(world.fleet.keys / "server.key")
    leaf = pki.load_authority(world.fleet.keys).issue((HOST,), key=key)
    return Nginx(folder, leaf.certificate, leaf.key, **settings), leaf.key


def padded(version: str) -> bytes:
    """An image of several ranges: nothing in it looks behind its records."""
    data = image(version)
    return data + bytes(range(256)) * 160


def confirmed(world: World, board: Board, version: str) -> None:
    restarted(board, version)
    while order(world)["state"] != "Idle":
        pass


def test_images_from_a_web_server(world: World, tmp_path: Path) -> None:
    home = world.fleet.simulated(DEVICE)
    with Board(home) as board:
        board.says("version factory")
        board.says("log session-stands")
        world.happening("session", app="authority")

        # With the broker's key: its pins are the broker's. Ranges over one connection, nothing over MQTT.
        nginx, _ = web(world, tmp_path / "one")
        two = padded("two")
        (nginx.www / "two.img").write_bytes(two)
        with nginx.running():
            status = order(world, envelope=envelope(2, two, nginx.url("two.img")))
            assert (status["state"], status["want"]) == ("Downloading", None)
            confirmed(world, board, "two")
        assert len(nginx.requests()) == -(-len(two) // 16384)
        assert all('" 206 ' in line for line in nginx.requests())

        # With a key of its own that nobody pinned: the authority is asked for the image instead.
        nginx, key = web(world, tmp_path / "two", own_key=True, requests=2)
        three = padded("three")
        (nginx.www / "three.img").write_bytes(three)
        with nginx.running():
            order(world, envelope=envelope(3, three, nginx.url("three.img")))
            board.says("log pin-mismatch")
            status = order(world)
            assert status["want"] == [0, "app", 0, 1024]
            assert nginx.requests() == []
            assert order(world, abort=True)["state"] == "Aborted"

            # With its pins in the order; and it closes each connection after two answers.
            pins = [pin(key), bytes(32)]
            order(world, envelope=envelope(3, three, nginx.url("three.img")), pins=pins)
            confirmed(world, board, "three")
        assert len(nginx.requests()) == -(-len(three) // 16384)

        # Not there; another image there; and told not to ask it.
        nginx, _ = web(world, tmp_path / "three")
        four = padded("four")
        (nginx.www / "four.img").write_bytes(four[:-1])
        with nginx.running():
            order(world, envelope=envelope(4, four, nginx.url("nothing.img")))
            board.says("log https-status")
            assert order(world, abort=True)["state"] == "Aborted"
            order(world, envelope=envelope(4, four, nginx.url("four.img")))
            board.says("log https-range")
            status = order(world)
            assert order(world, abort=True)["state"] == "Aborted"
            (nginx.www / "four.img").write_bytes(bytes(len(four)))
            order(world, envelope=envelope(4, four, nginx.url("four.img")))
            while order(world)["state"] == "Downloading":
                pass
            status = order(world)
            assert (status["state"], status["reason"]) == ("Aborted", "image-mismatch")
            count = len(nginx.requests())
            status = order(world, envelope=envelope(4, four, nginx.url("four.img")), https=False)
            assert status["want"] is not None
            assert send_rest(world, status, four)["state"] == "Testing"
            confirmed(world, board, "four")
            assert len(nginx.requests()) == count


def test_a_fetch_that_is_cut(world: World, tmp_path: Path) -> None:
    """The device loses its power, then the server goes: it goes on where the flash stands, at last with the authority's chunks."""
    home = world.fleet.simulated(DEVICE)
    with Board(home) as board:
        board.says("log session-stands")
        world.happening("session", app="authority")
        nginx, _ = web(world, tmp_path / "web", rate=65536)
        two = padded("two") + bytes(300000)
        (nginx.www / "two.img").write_bytes(two)
        made = envelope(2, two, nginx.url("two.img"))
        slot = home / "root" / "slots"
        with nginx.running():
            order(world, envelope=made)
            while not any(path.stat().st_size > len(two) // 2 for path in slot.glob("app.?")):
                pass
            board.kill()
            board.start()
            board.says("log session-stands")
            world.happening("session", app="authority")
            before = len(nginx.requests())
            order(world, envelope=made)
            while len(nginx.requests()) < before + 2:
                pass
        # The server is gone: three connections later the authority is asked.
        board.says("log unreachable")
        status = order(world)
        assert status["want"][2] > len(two) // 2
        assert send_rest(world, status, two)["state"] == "Testing"
        restarted(board, "two")
