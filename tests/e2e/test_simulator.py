"""The simulator's server: who may ask, what it refuses, what the flash shows, cuts of the power.

There is no broker: the device starts, shows its display, and finds no server.
"""

import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_kit import DEVICE, PATIENCE_S, World
from simulator_kit import APP, Simulator, simulator
from test_no_secret_shown import forms, secrets_of
from warden_host.devices import provision
from warden_host.protocol import policy
from warden_host.sim import flash_files
from warden_host.sim.clock import libfaketime
from warden_host.sim.web import app

PASSWORD = "a-password-of-a-device-at-the-broker"
FLASH = f"/board/{DEVICE}/flash"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, umqtt_path: Path) -> World:
    folder = tmp_path_factory.mktemp("simulator")
    made = World(folder)
    (folder / "probe.py").write_text(APP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provision, "device_password", lambda: PASSWORD)
        made.provision(source=folder / "probe.py", otp=policy.otp())
    return made


@pytest.fixture(scope="module")
def running(world: World) -> Iterator[Simulator]:
    with simulator(world, DEVICE) as made:
        first = made.url
        made.enter()
        assert made.url != first
        yield made


def test_who_may_ask(running: Simulator) -> None:
    port = running.port
    for path in ("/live", FLASH, f"{FLASH}/main.py"):
        for given in (None, "Bearer ", "Bearer x", running.token, f"Basic {running.token}"):
            assert running.ask("GET", path, Authorization=given)[0] == 401
    press = "POST", f"/board/{DEVICE}/off", {}
    assert running.ask(*press, Authorization=None)[0] == 401
    for origin in (None, "null", "http://127.0.0.1:1", f"https://127.0.0.1:{port}"):
        assert running.ask(*press, Origin=origin)[0] == 403
    for host in ("example.net", f"example.net:{port}", "127.0.0.1"):
        assert running.ask("GET", "/", Host=host)[0] == 421
    for key in ("", "x", running.token, None, 1):
        assert running.ask("POST", "/enter", {"key": key})[0] == 401
    # A link's key is worth one session.
    key = {"key": running.url.partition("#")[2]}
    assert running.ask("POST", "/enter", key)[0] == 200
    assert running.ask("POST", "/enter", key)[0] == 401
    running.url = running.next_link()
    status, page = running.ask("GET", "/", Authorization=None)
    assert status == 200 and DEVICE.encode() not in page


def test_what_is_no_order(running: Simulator) -> None:
    for order, fields in (
        ("keys", {"keys": "A"}),
        ("keys", {"keys": ""}),
        ("keys", {"keys": "1" * 17}),
        ("keys", {"keys": 1}),
        ("keys", {}),
        ("cut", {"after": -1}),
        ("cut", {"after": 100001}),
        ("cut", {"after": True}),
        ("cut", {"after": 1.5}),
        ("clock", {"shift": 10**10}),
        ("clock", {"shift": "1"}),
        ("network", {"mode": "away", "delay": 0}),
        ("network", {"mode": "up", "delay": 10001}),
        ("network", {"mode": "up", "delay": -1}),
        ("network", {"mode": ["up"], "delay": 0}),
        ("on", [1]),
        ("on", "{"),
        ("on", '{"a":' * 20 + "1" + "}" * 20),
        ("on", b"\xff"),
    ):
        status, answer = running.ask("POST", f"/board/{DEVICE}/{order}", fields)
        assert (status, set(answer)) == (400, {"error", "text"}), (order, fields)
    assert running.ask("POST", f"/board/{DEVICE}/on", "x" * 16385)[0] == 413
    assert running.ask("POST", f"/board/{DEVICE}/wipe", {})[0] == 404
    assert running.ask("POST", "/board/D9/on", {})[0] == 404
    assert running.ask("PUT", f"/board/{DEVICE}/on", {})[0] == 405


def test_the_flash_shows_no_secret(world: World, running: Simulator) -> None:
    home = world.fleet.simulated(DEVICE)
    running.wait_line(DEVICE, "unreachable")  # its start has written what it writes
    status, found = running.ask("GET", FLASH)
    assert status == 200 and not found["next"]
    seen, paths = bytearray(), [path for path, _, _ in found["files"]]
    for path, size, _ in found["files"]:
        data = bytearray()
        while len(data) < size:
            status, answer = running.ask("GET", f"{FLASH}{path}?from={len(data)}")
            assert status == 200
            data += bytes.fromhex(answer["hex"])
        assert data == (home / "root" / path[1:]).read_bytes()
        seen += data
    assert {"/data/key", "/data/app_authority.00000001", "/main.py"} <= set(paths)
    secrets = secrets_of(world.fleet) | {
        "password": PASSWORD.encode(),
        "root key": (home / "fuses" / "rootkey").read_bytes(),
    }
    assert len(secrets) > 4
    for name, secret in secrets.items():
        # A uid is no secret to its own device, whose record holds it sealed.
        assert not any(form in seen for form in forms(secret)), name


def test_the_files_of_a_flash_come_in_pages(world: World, running: Simulator) -> None:
    root = world.fleet.simulated(DEVICE) / "root"
    many = [root / f"many-{number:03}" for number in range(flash_files.MAX_FILES + 5)]
    for path in many:
        path.touch()
    try:
        shown: list[str] = []
        after = ""
        while True:
            status, page = running.ask("GET", f"{FLASH}?after={after}")
            assert status == 200 and len(page["files"]) <= flash_files.MAX_FILES
            shown += [path for path, _, _ in page["files"]]
            after = page["next"]
            if not after:
                break
        assert len(shown) == len(set(shown)) and {f"/{path.name}" for path in many} < set(shown)
        assert "/data/key" in shown
        for wrong in ("x", "a", "00" * 5000):
            assert running.ask("GET", f"{FLASH}?after={wrong}")[0] == 400
        assert running.ask("GET", f"{FLASH}?after=2e2e2f66757365732f")[0] == 200  # names no file
    finally:
        for path in many:
            path.unlink()


def test_no_name_leads_out_of_the_flash(world: World, running: Simulator) -> None:
    root = world.fleet.simulated(DEVICE) / "root"
    (root / "link").symlink_to("../fuses/rootkey")
    (root / "folder").symlink_to("../fuses")
    try:
        paths = [path for path, _, _ in running.ask("GET", FLASH)[1]["files"]]
        assert "/link" not in paths and "/folder/rootkey" not in paths
        for path in (
            "/link",
            "/folder/rootkey",
            "/../fuses/rootkey",
            "/lib/../../fuses/rootkey",
            "/%2e%2e/fuses/rootkey",
            "//etc/passwd",
            "/lib",
            "/",
            "x",
            "/" + "a/" * 20,
            "/%00",
            "/" + "a" * 300,
        ):
            assert running.ask("GET", FLASH + path)[0] == 400, path
        assert running.ask("GET", f"{FLASH}/main.py?from=-1")[0] == 400
        assert running.ask("GET", f"{FLASH}/main.py?from={10**12}")[0] == 400
        assert running.ask("GET", f"{FLASH}/main.py?from=%C2%B2")[0] == 400  # a digit, no number
        assert running.ask("GET", f"{FLASH}/main.py?from=99999999")[1]["hex"] == ""
    finally:
        (root / "link").unlink()
        (root / "folder").unlink()


def test_streams_are_counted(running: Simulator) -> None:
    opened = []
    try:
        for number in range(app.MOST_STREAMS + 1):
            one = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE_S)
            opened.append(one)
            one.request("GET", "/live", headers={"Authorization": f"Bearer {running.token}"})
            assert one.getresponse().status == (200 if number < app.MOST_STREAMS else 503)
    finally:
        for one in opened:
            if one.sock is not None:
                one.sock.shutdown(socket.SHUT_RDWR)
            one.close()


def test_cut_within_operations_of_the_flash(world: World, running: Simulator) -> None:
    """Half a write, and the old record; the next start is whole."""
    data = world.fleet.simulated(DEVICE) / "root" / "data"
    running.wait_line(DEVICE, "unreachable")
    running.order(DEVICE, "off")
    running.wait_line(DEVICE, "-- off: the power was cut")
    for number in range(2, 7):
        before = (data / "commit").read_bytes()
        running.order(DEVICE, "cut", after=number)
        running.order(DEVICE, "on")
        line = running.wait_line(DEVICE, f"-- off: cut within operation {number},")
        if "write /data/~staged" in line:
            assert 0 < (data / "~staged").stat().st_size < len(before)
        if "rename" in line:
            assert (data / "~staged").stat().st_size == len(before)
        if number < 6:
            assert (data / "commit").read_bytes() == before, line
    running.order(DEVICE, "on")
    running.wait_line(DEVICE, "unreachable")


@pytest.mark.skipif(libfaketime() is None, reason="no libfaketime on this machine")
def test_the_clock(running: Simulator) -> None:
    running.order(DEVICE, "off")
    running.order(DEVICE, "clock", shift=30 * 86400)
    running.order(DEVICE, "on")
    running.wait_line(DEVICE, "-- on")
    shown = int(running.wait_line(DEVICE, "time ").partition(" ")[2].partition(".")[0])
    assert abs(shown - time.time() - 30 * 86400) < 86400
