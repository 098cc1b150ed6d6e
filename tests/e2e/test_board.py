"""`warden provision --port`: a bare board on a serial port becomes a device of the fleet.

The board is port_model.BoardModel: the unix port with a littlefs, behind a raw REPL.
"""

import base64
import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from board_kit import PATIENCE, STEPS, Cut, Seen, provision_board
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fleet_kit import DEVICE, PATIENCE_S, TYPE, World, wait_until, with_certificates
from mpremote.transport_serial import SerialTransport
from port_model import BoardModel
from warden_build import archive
from warden_host.boards import package
from warden_host.boards.connection import Board
from warden_host.boards.records import BoardRecord
from warden_host.devices import bundle, provision
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.fleet import board_file
from warden_host.protocol import policy
from warden_host.store.store import Store

APP = Path(__file__).parents[2] / "examples" / "relay" / "app.py"
CHALLENGE = b"0123456789abcdef"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fleet without a running authority."""
    return World(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def _package_is_compiled_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "build", functools.cache(package.build))
        yield


@pytest.fixture
def model(tmp_path: Path, micropython: str) -> Iterator[BoardModel]:
    with BoardModel(tmp_path / "board", micropython) as made:
        yield made


@pytest.fixture(scope="module")
def flash(tmp_path_factory: pytest.TempPathFactory, micropython: str) -> bytes:
    """What is in a board's flash after the step install."""
    folder = tmp_path_factory.mktemp("installed")
    with BoardModel(folder / "board", micropython) as made:
        with pytest.raises(Cut):
            provision_board(World(folder), made.port, Seen(("install", "end")), offline=True)
        made.unplug()
        return made.flash.read_bytes()


@pytest.fixture
def installed(flash: bytes, tmp_path: Path, micropython: str) -> Iterator[BoardModel]:
    """A board whose step install has nothing to write, for tests of what follows."""
    made = BoardModel(tmp_path / "board", micropython)
    made.flash.write_bytes(flash)
    with made:
        yield made


def fails(code: str, world: World, model: BoardModel, **more: object) -> HostError:
    with pytest.raises(HostError) as caught:
        provision_board(world, model.port, **({"offline": True} | more))  # type: ignore[arg-type]
    assert caught.value.code == code, caught.value
    return caught.value


def files(model: BoardModel) -> dict[str, int]:
    """The board's files and their sizes, read while it is off."""
    model.unplug()
    return eval(model.run_offline(_FILES))  # noqa: S307


def modules(model: BoardModel) -> set[str]:
    """The modules of the board's package, read while it is off."""
    model.unplug()
    code = 'with open("/lib/warden.mpy", "rb") as file:\n    print(file.read())\n'
    return set(archive.unpack(eval(model.run_offline(code))))  # noqa: S307


_FILES = """
import os
def files(folder):
    for name, kind, *_ in list(os.ilistdir(folder)):
        path = folder + "/" + name
        if kind == 0x4000:
            if path != "/fuses":
                yield from files(path)
        else:
            yield path, os.stat(path)[6]
print(dict(files("")))
"""
_STATE = f"""
import json
from warden.provisioning.provision import state
print(json.dumps(state({CHALLENGE!r})))
"""


def assert_live(world: World, model: BoardModel) -> None:
    """The board starts Warden, and its vault holds what the fleet has."""
    found = files(model)
    assert {"/boot.py", "/main.py", "/app/app.py", "/lib/board.py"} <= set(found)
    assert not [path for path in found if path.endswith("~")]
    state = model.run_offline(_STATE)
    with Store(world.fleet.database) as store:
        pairs = store.device(DEVICE).pairs
    key = next(pair.k for pair in pairs if pair.appid == "authority")
    info = b"warden provisioned" + CHALLENGE
    assert HKDF(hashes.SHA256(), 16, None, info).derive(key).hex() in state
    assert f'["{TYPE}", "{DEVICE}"]' in state


def test_a_bare_board_becomes_a_device(world: World, model: BoardModel) -> None:
    with world:
        seen = Seen()
        outcome = provision_board(world, model.port, seen)
        assert seen.steps == list(STEPS)
        assert outcome.connected and outcome.session and not outcome.kept
        assert world.command("set_relay", on=1) == {"on": 1}


def test_a_board_makes_the_key_of_its_certificate(tmp_path: Path, model: BoardModel) -> None:
    world = with_certificates(World(tmp_path), "certificate-or-password")
    with world:
        outcome = provision_board(world, model.port)
        assert outcome.connected and outcome.session
        with Store(world.fleet.database) as store:
            assert [row.made_on for row in store.certificates(DEVICE)] == ["device"]
        assert world.command("set_relay", on=1) == {"on": 1}


def test_no_watchdog_is_started_before_it_is_live(world: World, installed: BoardModel) -> None:
    """Once started it can't be stopped, and would bite at the REPL."""
    fed = []
    with world:

        class Watching(Seen):
            def begin(self, step: str, text: str) -> None:
                super().begin(step, text)
                fed.append(installed.fed)

        provision_board(world, installed.port, Watching())
        assert fed[:-1] == [False] * 7
        world.command("get_relay")
        assert installed.fed


def test_only_the_parts_that_the_policy_needs(world: World, model: BoardModel) -> None:
    provision_board(world, model.port, offline=True)
    names = modules(model)
    assert {"start", "provisioning", "erase", "recovery"} <= names
    assert not names & {"ota", "manifest", "https", "gate", "plain", "p256_native", "rsa"}
    assert not [name for name in names if "nvs" in name or "atecc" in name]


def test_a_part_that_the_policy_of_a_kept_vault_needs(world: World, installed: BoardModel) -> None:
    """The command that goes on may have forgotten --otp or --plain."""
    gate = policy.otp()
    with pytest.raises(Cut):
        provision_board(
            world, installed.port, Seen(("live", "begin")), offline=True, otp=gate, plain=True
        )
    assert provision_board(world, installed.port, offline=True).kept
    assert {"gate", "plain"} <= modules(installed)


def test_a_plain_device(world: World, model: BoardModel) -> None:
    with world:
        provision_board(world, model.port, plain=True)
        assert "plain" in modules(model)


def test_a_root_key_with_a_pin(world: World, installed: BoardModel) -> None:
    """The PIN goes to the board behind the bundle, and opens the vault for the connection."""
    with world:
        outcome = provision_board(world, installed.port, board="UNIX_PIN", pin=b"12\x0334")
        assert outcome.connected


@pytest.mark.parametrize(
    ("step", "where"),
    [
        (step, where)
        for step in STEPS
        for where in ("begin", "middle", "end")
        if step not in ("connect", "session")
        and (where != "middle" or step in ("install", "secrets"))
    ],
)
def test_a_call_that_is_cut_is_repeated(
    world: World, request: pytest.FixtureRequest, step: str, where: str
) -> None:
    """At each step: the same call again is not asked anything, and makes the device."""
    bare = step in ("check", "install")
    model: BoardModel = request.getfixturevalue("model" if bare else "installed")
    with pytest.raises(Cut):
        provision_board(world, model.port, Seen((step, where)), offline=True)
    model.unplug()  # as if the power had gone too
    model.plug_in()
    if (step, where) != ("live", "end"):
        provision_board(world, model.port, offline=True)
    assert_live(world, model)


def test_a_connection_that_is_cut_is_repeated(world: World, installed: BoardModel) -> None:
    with world:
        with pytest.raises(Cut):
            provision_board(world, installed.port, Seen(("connect", "end")))
        outcome = provision_board(world, installed.port)
        assert outcome.kept and outcome.connected and outcome.session


@pytest.mark.parametrize("step", ["install", "secrets", "live"])
def test_a_port_that_vanishes(world: World, model: BoardModel, step: str) -> None:
    class Unplug(Seen):
        def _cut(self, where: str) -> None:
            if self.steps[-1] == step:
                model.unplug()

    error = fails("board-lost", world, model, seen=Unplug())
    assert "unplugged" in error.text or "closed" in error.text
    model.plug_in()
    provision_board(world, model.port, offline=True)
    assert_live(world, model)


@pytest.mark.parametrize("share", [0.02, 0.6, 0.97])
def test_a_board_that_resets(world: World, model: BoardModel, share: float) -> None:
    """Somewhere in the middle of what is sent: the call ends, and the next one goes on."""
    provision_board(world, model.port, offline=True)
    whole = model.received
    model.erase_flash()
    model.received = 0
    model.on_input = lambda data, at: None if at >= whole * share else data
    error = None
    try:
        provision_board(world, model.port, offline=True, again=True, erase=True)
    except HostError as caught:
        error = caught
    assert error is not None and error.code in ("board-lost", "board-silent", "port-unknown")
    model.on_input = lambda data, _: data
    model.plug_in()
    provision_board(world, model.port, offline=True, again=True)
    assert_live(world, model)


def test_no_secret_is_anywhere_in_clear(
    world: World, installed: BoardModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on the flash, erased blocks included, not in what the board wrote, nor in an error."""
    bundles: list[bytes] = []
    framed = bundle.framed
    monkeypatch.setattr(bundle, "framed", lambda data: (bundles.append(data), framed(data))[1])
    with pytest.raises(Cut):
        provision_board(world, installed.port, Seen(("secrets", "middle")), offline=True)
    provision_board(world, installed.port, offline=True)
    assert_live(world, installed)
    with Store(world.fleet.database) as store:
        keys = [pair.k for pair in store.device(DEVICE).pairs]
    assert len(bundles) == 2 and keys[0] in bundles[1]
    flash = installed.flash.read_bytes() + b"".join(
        path.read_bytes() for path in installed.fuses.iterdir()
    )
    for sent in bundles:
        for at in range(0, len(sent) - 16, 8):
            piece = sent[at : at + 16]
            assert piece not in flash and piece not in installed.lines
    text = base64.b64encode(bundles[1][:1500])[:64]
    assert text not in flash and text not in installed.lines


def test_a_bundle_that_is_refused_is_not_quoted(
    world: World, installed: BoardModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "framed", lambda data: b"\0\0\0\x08secret!!")
    error = fails("provision-failed", world, installed)
    assert "bad-bundle" in error.text and "secret" not in str(error)
    with Store(world.fleet.database) as store:
        assert store.find(DEVICE) is None


def test_ctrl_c_interrupts_afterwards(world: World, installed: BoardModel) -> None:
    with pytest.raises(Cut):
        provision_board(world, installed.port, Seen(("secrets", "end")), offline=True)
    with Board(installed.port, PATIENCE) as board:
        with pytest.raises(HostError) as caught:
            board.run("print('before')\nwhile True:\n    pass", answer_s=0.5)
        assert caught.value.code == "board-lost"
    with Board(installed.port, PATIENCE) as board:  # Ctrl-C ended it
        assert board.run("print(1)").strip() == "1"


def test_a_call_with_networks_gives_new_secrets(world: World, installed: BoardModel) -> None:
    """The password of the last call may have been mistyped."""
    wrong = (bundle.Network("home", "a mistyped password"),)
    with pytest.raises(Cut):
        provision_board(world, installed.port, Seen(("connect", "begin")), networks=wrong)
    right = (bundle.Network("home", "the right password"),)
    assert not provision_board(world, installed.port, networks=right, offline=True).kept
    assert_live(world, installed)


def test_a_board_of_another_device_is_kept(world: World, installed: BoardModel) -> None:
    with pytest.raises(Cut):
        provision_board(world, installed.port, Seen(("live", "begin")), device="D2", offline=True)
    error = fails("board-provisioned", world, installed)
    assert "D2 of type relay" in error.text
    with Store(world.fleet.database) as store:
        assert store.find(DEVICE) is None
    provision_board(world, installed.port, answer=True, offline=True)
    assert_live(world, installed)


def test_a_live_board_of_another_device_stays_live(world: World, installed: BoardModel) -> None:
    """Such as one in development mode, at the wrong port: it is asked for before it is touched."""
    with pytest.raises(Cut):
        provision_board(world, installed.port, Seen(("live", "begin")), device="D2", offline=True)
    with Board(installed.port, PATIENCE) as board:
        for path in ("/boot.py", "/main.py", "/lib/note.py"):
            list(board.write(path, b"pass\n"))
    seen = Seen()
    error = fails("board-provisioned", world, installed, seen=seen)
    assert "D2 of type relay" in error.text and seen.steps == ["check"]
    assert {"/boot.py", "/main.py", "/lib/note.py"} <= set(files(installed))
    installed.plug_in()
    asked: list[str] = []
    provision_board(world, installed.port, answer=True, offline=True, asked=asked)
    assert len(asked) == 1
    assert_live(world, installed)


def test_a_board_with_a_program_of_its_own(world: World, installed: BoardModel) -> None:
    """Its files have the names of a live board's, and no Warden answers for a vault."""
    with Board(installed.port, PATIENCE) as board:
        board.run("import os\nos.remove('/lib/warden.mpy')")
        for path in ("/boot.py", "/main.py"):
            list(board.write(path, b"pass\n"))
    provision_board(world, installed.port, offline=True)
    assert_live(world, installed)


def test_a_board_of_another_fleet_is_kept(
    world: World, installed: BoardModel, tmp_path: Path
) -> None:
    """It may have the same device's name: its proof is another."""
    other = World(tmp_path / "other")
    with pytest.raises(Cut):
        provision_board(other, installed.port, Seen(("live", "begin")), offline=True)
    fails("board-provisioned", world, installed)
    provision_board(world, installed.port, erase=True, offline=True)
    assert_live(world, installed)


def test_two_boards_with_one_id(
    world: World, installed: BoardModel, tmp_path: Path, micropython: str
) -> None:
    provision_board(world, installed.port, offline=True)
    with BoardModel(tmp_path / "second", micropython, unique_id=b"another!") as second:
        before = second.flash.read_bytes()
        error = fails("device-exists", world, second)
        assert "another board" in error.text
        assert second.flash.read_bytes()[:4096] == before[:4096]
        provision_board(world, second.port, offline=True, again=True)
        assert_live(world, second)


def test_a_live_board_does_not_answer(world: World, installed: BoardModel) -> None:
    """No one who plugs it in gets a REPL with the vault open."""
    provision_board(world, installed.port, offline=True)
    installed.wait_line(b"unreachable")  # before boot.py, a chip is anyone's who plugs it in
    error = fails("board-silent", world, installed, patience=0.1)
    assert "erase its flash" in error.hint


def test_a_broker_that_is_away_is_told_and_mended(world: World, installed: BoardModel) -> None:
    """The board is not live then: the same call connects later, with the same secrets."""
    error = fails("no-session", world, installed, offline=False, connect_s=10)
    assert "unreachable" in error.text or "link" in error.text
    with world:
        outcome = provision_board(world, installed.port)
        assert outcome.kept and outcome.session


def test_fat_is_refused(world: World, tmp_path: Path, micropython: str) -> None:
    with BoardModel(tmp_path / "fat", micropython, kind="VfsFat") as model:
        error = fails("board-unfit", world, model)
        assert "littlefs" in error.text
        assert "/lib" not in str(files(model))


def test_a_small_filesystem_is_refused(world: World, tmp_path: Path, micropython: str) -> None:
    with BoardModel(tmp_path / "small", micropython, blocks=64) as model:
        error = fails("board-unfit", world, model)
        assert "too small" in error.text
        assert "/lib" not in str(files(model))


def test_a_full_filesystem_is_refused(world: World, model: BoardModel) -> None:
    """Files of the board that are none of Warden's stay."""
    with Board(model.port, PATIENCE) as board:
        board.run(
            "f = open('/photo', 'wb')\nfor _ in range(150): n = f.write(bytes(4096))\nf.close()"
        )
    error = fails("board-unfit", world, model)
    assert "too small" in error.text
    assert files(model)["/photo"] == 150 * 4096


def test_the_application_of_the_board_stays(world: World, model: BoardModel) -> None:
    with Board(model.port, PATIENCE) as board:
        board.run("import os\nos.mkdir('/app')")
        assert list(board.write("/app/app.py", APP.read_bytes() + b"# mine\n"))
    provision_board(world, model.port, offline=True)
    assert files(model)["/app/app.py"] == APP.stat().st_size + 7


def test_an_application_replaces_the_old_one(
    world: World, model: BoardModel, tmp_path: Path
) -> None:
    with Board(model.port, PATIENCE) as board:
        board.run("import os\nos.mkdir('/app')\nopen('/app/old.py', 'w').close()")
    source = tmp_path / "app"
    (source / "parts").mkdir(parents=True)
    (source / "app.py").write_bytes(APP.read_bytes())
    (source / "parts" / "one.py").write_text("ONE = 1\n")
    provision_board(world, model.port, offline=True, app_source=source)
    found = files(model)
    assert "/app/parts/one.py" in found and "/app/old.py" not in found


def test_a_new_package_takes_the_room_of_the_old_one(world: World, installed: BoardModel) -> None:
    """Where both together have none: littlefs keeps a file until the one over it is closed."""
    with Board(installed.port, PATIENCE) as board:
        board.run(
            "import os\nf = open('/photo', 'wb')\nwhile os.statvfs('/')[3] > 42:\n"
            "    n = f.write(bytes(4096))\n    f.flush()\nf.close()"
        )
    provision_board(world, installed.port, offline=True, plain=True)
    assert "plain" in modules(installed)


def test_the_folder_of_an_earlier_package_goes(world: World, model: BoardModel) -> None:
    """An import would find it before the file of this one."""
    with Board(model.port, PATIENCE) as board:
        board.run("import os\nos.mkdir('/lib')\nos.mkdir('/lib/warden')")
        list(board.write("/lib/warden/__init__.py", b"raise ImportError('an earlier one')\n"))
    provision_board(world, model.port, offline=True)
    assert "/lib/warden/__init__.py" not in files(model)
    assert_live(world, model)


def test_what_a_cut_replacement_left_goes(world: World, model: BoardModel) -> None:
    """boot.py would take it for a package that waits to be installed."""
    with Board(model.port, PATIENCE) as board:
        for folder in ("/lib~", "/lib~/warden", "/lib~part", "/lib~part/warden"):
            board.run(f"import os\nos.mkdir({folder!r})")
        board.run("open('/lib~/warden/old.py', 'w').close()")
    provision_board(world, model.port, offline=True)
    assert "~" not in str(files(model))
    assert_live(world, model)


def test_the_devices_own_way_in_takes_every_byte(world: World, model: BoardModel) -> None:
    """main() over a REPL: Ctrl-C and Ctrl-D in the bundle are bytes of it, and interrupt after."""
    with pytest.raises(Cut):
        provision_board(world, model.port, Seen(("self-test", "end")), offline=True)
    sent: list[bytes] = []
    networks = (bundle.Network("\x01\x03\x04", "\x03\x04\x03\x04\x03\x04\x03\x04"),)
    order = provision.Order(DEVICE, TYPE, networks=networks)
    with Store(world.fleet.database) as store:
        provision.provision_board(world.fleet, store, order, lambda data, _: sent.append(data))
    wire = SerialTransport(model.port, timeout=PATIENCE_S)
    try:
        wire.enter_raw_repl(soft_reset=True, timeout_overall=PATIENCE_S)
        for data, answer in (
            (b"\0\0\0\x08not CBOR", b'"error": "bad-bundle"'),
            (b"\xff\xff\xff\xff" + b"print('run by the REPL')\r\n" * 100, b'"bad-bundle"'),
            (bundle.framed(sent[0]), b'{"ok": true}'),
        ):
            wire.exec_raw_no_follow(_MAIN)
            wait_until(lambda: not model.interrupts, "end of Ctrl-C")  # main() has begun
            wire.serial.write(data)
            output, failure = wire.follow(PATIENCE_S)
            assert answer in output and failure == b"", (output, failure)
        assert b"run by the REPL\r" not in model.lines
        wire.exec_raw_no_follow("import time\nprint('go')\nwhile True: time.sleep(0.01)")
        assert wire.read_until(1, b"go\r\n", timeout=PATIENCE_S) == b"go\r\n"
        wire.serial.write(b"\x03")
        assert b"KeyboardInterrupt" in wire.follow(PATIENCE_S)[1]
    finally:
        wire.close()


_MAIN = """
import sys
sys.path[:] = [".frozen", "/lib"]
from warden.provisioning.provision import main
main()
"""


def test_another_boards_firmware_is_refused(world: World, model: BoardModel) -> None:
    error = fails("board-unfit", world, model, board="RPI_PICO_W")
    assert "another board" in error.text


def test_a_simulated_device_gives_way(world: World, installed: BoardModel) -> None:
    """The board that replaces it has the name alone."""
    world.provision(DEVICE)
    fails("device-exists", world, installed)
    provision_board(world, installed.port, offline=True, again=True)
    assert not world.fleet.simulated(DEVICE).exists()
    assert_live(world, installed)


def test_an_order_that_changes_nothing_of_the_files_writes_none(
    world: World, installed: BoardModel
) -> None:
    with pytest.raises(Cut):
        provision_board(world, installed.port, Seen(("install", "end")), offline=True)
    seen = Seen()
    provision_board(world, installed.port, seen, offline=True)
    assert seen.texts["install"].endswith(" 0 were written")


@pytest.mark.parametrize("cut", [False, True])
def test_a_live_board_in_development_mode_gets_a_new_package(
    world: World, installed: BoardModel, cut: bool
) -> None:
    """At once, beside the old one; secrets and application stay as they are."""
    with world:
        provision_board(world, installed.port, development=True)
        assert world.authority is not None
        order = {"device": DEVICE, "seconds": 3600}
        request = Request(DEVICE, "develop", order, app="authority", timeout_s=PATIENCE_S)
        assert world.authority.command(request)["ok"] is True
        world.fleet_event("development", app="authority")
        sent: list[bytes] = []
        installed.on_input = lambda data, _: (sent.append(data), data)[1]
        seen = Seen(("install", "end") if cut else ("", ""))
        with pytest.raises(Cut) if cut else contextlib.nullcontext():
            outcome = provision_board(world, installed.port, seen, patience=10)
            assert outcome.kept and outcome.session
        assert seen.steps == ["check", "install", *([] if cut else ["live", "session"])]
        assert b"/lib~part" in b"".join(sent)
        if cut:  # the power goes, and the command is not repeated
            installed.unplug()
            installed.plug_in()
            world.fleet_event("development", app="authority")
    assert_live(world, installed)
    assert "/lib~" not in str(files(installed))


def test_a_live_board_with_wifi_gets_a_new_package_without_its_networks(
    world: World, installed: BoardModel
) -> None:
    text = board_file.load("UNIX").text.replace('"wired"', '"wifi"')
    own = board_file.parse(text, "board.py")
    wifi = (bundle.Network("home"),)
    with pytest.raises(Cut):
        provision_board(
            world,
            installed.port,
            Seen(("live", "begin")),
            networks=wifi,
            own_board=own,
            offline=True,
        )
    with Board(
        installed.port, PATIENCE
    ) as board:  # it stays at its prompt, as in development mode
        for path in ("/boot.py", "/main.py"):
            list(board.write(path, b"pass\n"))
    record = BoardRecord.load(world.fleet, DEVICE)
    assert record is not None
    replace(record, live=True).save(world.fleet)
    seen = Seen()
    assert provision_board(world, installed.port, seen, own_board=own, offline=True).kept
    assert seen.steps == ["check", "install", "live"]
    installed.erase_flash()
    seen = Seen()
    error = fails("no-network", world, installed, seen=seen, own_board=own)
    assert "no network is named" in error.text and seen.steps == ["check"]
