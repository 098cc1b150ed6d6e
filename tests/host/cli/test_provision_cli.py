"""`warden provision` for boards on the command line: options, questions, refusals and --json."""

import json
import re

import cbor2
import pytest
from cli_kit import fails, said
from host_kit import refused
from port_model import BoardModel
from warden_host.boards.records import BoardRecord
from warden_host.broker.mosquitto import registry
from warden_host.cli import batch, main, secrets_input
from warden_host.cli import provision as cli_provision
from warden_host.devices import bundle, gateways, provision
from warden_host.errors import HostError
from warden_host.fleet import board_file, device_tree
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Store

SSID, PASSWORD = "the house", "only for the house"
BOARD_OPTIONS = (["--offline"], ["--yes"], ["--patience", "2"])
BATCH_OPTIONS = (["--labels", "labels.pdf"], ["--wait", "0"], ["--resume"], ["--at-once", "2"])


@pytest.fixture
def model(tmp_path, micropython):
    with BoardModel(tmp_path / "board", micropython) as made:
        yield made


@pytest.fixture
def real_umqtt(monkeypatch):
    """The fleet's fixture has a stand-in for simulated devices."""
    monkeypatch.delenv("WARDEN_UMQTT")
    device_tree.umqtt()


def known(folder, device="D1"):
    with Store(folder / "fleet.db") as store:
        return store.find(device)


def test_a_board_in_json(folder, model, real_umqtt, capsys):
    arguments = ["provision", "D1", "--board", "UNIX", "--port", model.port, "--offline"]
    assert main.run([*arguments, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    steps = [line["step"] for line in lines if line.get("state") == "done"]
    assert steps == ["check", "install", "clock", "self-test", "secrets", "live"]
    assert lines[-1] | {"type": 0} == {
        "ok": True,
        "device": "D1",
        "type": 0,
        "mode": "sealed",
        "apps": ["authority"],
        "port": model.port,
        "chip": "0102030405060708",
        "connected": False,
        "session": False,
    }
    assert known(folder).board == "UNIX"


def test_a_board_for_people(folder, model, real_umqtt, capsys):
    arguments = ["provision", "D1", "--board", "UNIX", "--port", model.port, "--offline"]
    assert main.run(arguments) == 0
    out = capsys.readouterr().out
    assert "✓ self-test" in out and "device D1 is live" in out


def test_nothing_is_touched_without_serve(folder, model, capsys):
    before = model.received
    fails(capsys, "not-serving", "provision", "D1", "--board", "UNIX", "--port", model.port)
    assert model.received == before
    assert known(folder) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["D1"],
        ["D1", "--sim", "--port", "auto", "--board", "UNIX"],
        ["D1", "--port", "auto"],
        ["D1", "--bundle", "file"],
        ["D1", "--sim", "--bundle", "file", "--board", "UNIX"],
        ["--batch", "list.csv", "--bundle", "file"],
        *(["D1", "--sim", *option] for option in BOARD_OPTIONS + BATCH_OPTIONS),
        *(["D1", "--board", "UNIX", "--port", "p", "--offline", *one] for one in BATCH_OPTIONS),
    ],
)
def test_wrong_usage(folder, arguments, capsys):
    """An option without effect, too: it was meant for another way onto the device."""
    assert main.run(["provision", *arguments, "--json"]) == 2
    assert said(capsys)["error"]["code"] == "bad-argument"
    assert known(folder) is None


def test_a_port_is_asked_for(folder, monkeypatch, capsys):
    monkeypatch.setattr("serial.tools.list_ports.comports", list)
    offline = ("--board", "UNIX", "--port", "auto", "--offline")
    fails(capsys, "port-unknown", "provision", "D1", *offline)


def test_a_board_with_wifi_needs_a_network(folder, capsys):
    board = ("--board", "RPI_PICO_W", "--port", "/dev/null", "--offline")
    fails(capsys, "no-network", "provision", "D1", *board)
    wired = ("--board", "UNIX", "--port", "/dev/null", "--offline")
    fails(capsys, "bad-argument", "provision", "D1", *wired, "--wifi", SSID)


def reachable(folder, capsys):
    """Give the fleet's broker an address that a board on a network can reach."""
    settings = folder / "warden.toml"
    settings.write_text(settings.read_text().replace('"127.0.0.1"', '"192.0.2.1"', 1))
    fails(capsys, "certificate-name", "provision", "D1", "--sim")
    assert main.run(["cert", "renew-server"]) == 0
    capsys.readouterr()


def test_a_board_with_wifi_needs_a_broker_elsewhere(folder, tmp_path, capsys):
    """It is refused before anything is written: the address of the fleet is in its secrets."""
    word = tmp_path / "password"
    word.write_text(PASSWORD)
    word.chmod(0o600)
    wifi = ("--wifi", SSID, "--wifi-password-file", str(word), "--offline")
    call = ["provision", "D1", "--board", "RPI_PICO_W", "--port", "/dev/no-port", *wifi]
    fails(capsys, "bad-argument", *call)
    file, bundle = bundle_call(folder, tmp_path, *wifi[:-1])
    fails(capsys, "bad-argument", *bundle)
    assert not file.exists()
    reachable(folder, capsys)
    fails(capsys, "port-unknown", *call)


def test_each_example_of_the_help_names_the_networks_that_its_board_needs():
    text = main.command("provision").help.replace("\\\n", " ")
    examples = re.findall(r"warden provision .*--board (\S+)(.*)", text)
    assert len(examples) >= 4
    for board, rest in examples:
        assert ("--wifi " in rest) == board_file.load(board).joins_wifi, rest


def bundle_call(folder, tmp_path, *more):
    file = tmp_path / "bundle"
    return file, ["provision", "D1", "--board", "RPI_PICO_W", "--bundle", str(file), *more]


def test_the_bundle_as_a_file(folder, tmp_path, capsys):
    reachable(folder, capsys)
    word = tmp_path / "password"
    word.write_text(PASSWORD + "\n")
    word.chmod(0o600)
    wifi = ("--wifi", SSID, "--wifi-password-file", str(word))
    file, call = bundle_call(folder, tmp_path, *wifi, "--json")
    assert main.run(call) == 0
    assert said(capsys)["device"] == "D1"
    data = file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert SSID.encode() in data and PASSWORD.encode() in data
    assert not (folder / "sim" / "D1").exists()
    fails(capsys, "bad-argument", *call[:-1], "--again")
    assert file.read_bytes() == data


def test_no_bundle_is_left_whose_device_the_fleet_does_not_know(
    folder, tmp_path, capsys, monkeypatch
):
    file = tmp_path / "bundle"
    call = ["provision", "D1", "--board", "UNIX", "--bundle", str(file)]
    with monkeypatch.context() as patched:  # another program's file, made after the first look
        patched.setattr(provision, "check_order", lambda *_: file.write_text("theirs"))
        assert main.run(call) == 2
    assert file.read_text() == "theirs" and known(folder) is None
    file.unlink()

    def fail(*_):
        raise HostError("broker-refused", "no")

    with monkeypatch.context() as patched:
        patched.setattr(registry._Stopped, "put", fail)
        fails(capsys, "broker-refused", *call)
    assert not file.exists() and known(folder) is None
    with monkeypatch.context() as patched:
        patched.setattr(gateways, "follow", fail)  # once the fleet has the device
        assert main.run(call) != 0
    assert file.exists() and known(folder) is not None
    before = file.read_bytes()
    fails(capsys, "bad-argument", *call, "--again")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("password", "mode", "expected"), [("short", 0o600, 2), (PASSWORD, 0o644, 1)]
)
def test_a_bad_password_is_refused_first(folder, tmp_path, capsys, password, mode, expected):
    word = tmp_path / "password"
    word.write_text(password)
    word.chmod(mode)
    wifi = ("--wifi", SSID, "--wifi-password-file", str(word))
    file, call = bundle_call(folder, tmp_path, *wifi)
    assert main.run(call) == expected
    out, err = capsys.readouterr()
    assert ("bad-argument" if mode == 0o600 else "key-permissions") in err
    assert password not in out + err
    assert not file.exists() and known(folder) is None


def test_a_password_for_each_network(folder, tmp_path, capsys):
    """Standard input holds one, and no terminal is there to ask for others."""
    for wifi in (
        ("--wifi", "a", "--wifi", "b", "--wifi-password-file", "-"),
        ("--wifi", "a", "--wifi", "b", "--wifi-password-file", "-", "--wifi-password-file", "-"),
        ("--wifi", "a"),
    ):
        _, call = bundle_call(folder, tmp_path, *wifi)
        fails(capsys, "bad-argument", *call)


# A board.py of one's own, and what is asked of a person


@pytest.fixture
def own(tmp_path):
    """The board.py of a simulated device, with another name in it."""
    path = tmp_path / "my-board.py"
    path.write_text(board_file.load("UNIX").text.replace('"UNIX"', '"MINE"'))
    return path


def test_a_board_file_goes_onto_a_simulated_device(folder, own):
    call = ["provision", "D1", "--type", "lock", "--sim", "--board-file", str(own)]
    assert main.run(call) == 0
    there = board_file.read(folder / "sim" / "D1" / "root" / "lib" / "board.py").values
    assert there["NAME"] == "MINE" and "SLOTS" not in there  # no release key, no updates


def test_a_board_file_goes_onto_a_board_and_is_kept(folder, model, real_umqtt, own):
    call = ["provision", "D1", "--board", "UNIX", "--port", model.port, "--offline"]
    assert main.run([*call, "--board-file", str(own)]) == 0
    assert b'NAME = "MINE"' in model.flash.read_bytes()
    record = BoardRecord.load(Fleet(folder), "D1")
    assert record.own_board().text == own.read_text()


def test_a_board_file_is_checked_first(folder, own, capsys):
    own.write_text(own.read_text().replace("FLOOR", "FLOR"))
    fails(capsys, "no-board", "provision", "D1", "--sim", "--board-file", str(own))
    missing = ("--board", "UNIX", "--port", "/dev/no-port", "--board-file", str(own) + "2")
    fails(capsys, "no-board", "provision", "D1", *missing, "--offline")
    assert not (folder / "sim" / "D1").exists() and known(folder) is None
    assert main.run(["provision", "--batch", "list", "--board-file", str(own)]) == 2


def test_a_board_file_decides_what_the_bundle_needs(folder, own, tmp_path, capsys):
    reachable(folder, capsys)
    own.write_text(own.read_text().replace('"wired"', '"wifi"'))
    call = ["provision", "D1", "--board", "UNIX", "--board-file", str(own)]
    call += ["--bundle", str(tmp_path / "bundle")]
    fails(capsys, "no-network", *call)
    assert main.run([*call, "--wifi", SSID, "--wifi-password-file", open_network(tmp_path)]) == 0


def open_network(tmp_path):
    empty = tmp_path / "empty"
    empty.touch(mode=0o600)
    return str(empty)


def test_slots_need_a_release_key(folder, tmp_path, capsys):
    reachable(folder, capsys)
    wifi = ("--wifi", SSID, "--wifi-password-file", open_network(tmp_path))
    _, call = bundle_call(folder, tmp_path, *wifi, "--slots")
    fails(capsys, "not-applicable", *call)
    word = tmp_path / "passphrase"
    word.write_text("for the release key")
    word.chmod(0o600)
    assert main.run(["keys", "make", "--passphrase-file", str(word)]) == 0
    assert main.run(call) == 0


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("app-unknown", ("--app", "garden")),
        ("reserved-command", ("--command", "wipe")),
        ("bad-name", ("--type", "a type")),
    ],
)
def test_what_no_device_can_be_is_told_before_a_port_is_opened(folder, capsys, code, wrong):
    call = ("provision", "D1", "--board", "UNIX", "--port", "/dev/no-port", "--offline")
    fails(capsys, "port-unknown", *call)
    fails(capsys, code, *call, *wrong)


@pytest.mark.parametrize(
    "board", [("UNIX_PIN",), ("RPI_PICO_W", "--wifi", SSID)], ids=lambda board: board[0]
)
def test_a_secret_that_no_one_can_be_asked_for_is_missed_before_a_port_is_opened(
    folder, capsys, board
):
    reachable(folder, capsys)
    call = ("provision", "D1", "--port", "/dev/no-port", "--offline", "--board", *board)
    assert main.run([*call, "--json"]) != 0
    assert "no terminal to ask" in said(capsys)["error"]["text"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("D1", "--port", "auto"), "name the board: --board"),
        (("--batch", "list", "--board-file", "b.py"), "--board-file goes with --board"),
        (("D1", "--sim", "--wifi", SSID), "board UNIX has no Wi-Fi"),
    ],
)
def test_options_that_miss_their_board(folder, capsys, arguments, text):
    assert main.run(["provision", *arguments]) == 2
    assert text in capsys.readouterr().err


def test_a_typed_password_that_no_network_has(monkeypatch):
    Terminal(monkeypatch, "short")
    order = provision.Order("D1", "relay", networks=(bundle.Network(SSID),))
    with refused("bad-argument"):
        cli_provision._ask(order, True)


def test_a_live_boards_package_needs_no_network(folder, own, capsys):
    """Its vault has them. A device that is no live board's needs one, whatever else is asked."""
    own.write_text(own.read_text().replace('"wired"', '"wifi"'))
    board = ("--board", "UNIX", "--board-file", str(own), "--offline")
    call = ("provision", "D1", *board, "--port", "/dev/no-port")
    fails(capsys, "no-network", *call)
    BoardRecord("D1", "aa", "UNIX", live=False).save(Fleet(folder))
    fails(capsys, "no-network", *call)
    BoardRecord("D1", "aa", "UNIX", live=True).save(Fleet(folder))
    fails(capsys, "port-unknown", *call)
    for more in (("--again",), ("--source", str(own))):
        fails(capsys, "no-network", *call, *more)
    fails(capsys, "no-network", "provision", "D1", *board[:-1], "--bundle", str(own) + "2")


class Terminal:
    """Standard input of a person who is asked for a password."""

    def __init__(self, monkeypatch, password):
        self.asked = []
        monkeypatch.setattr("sys.stdin", type("Tty", (), {"isatty": lambda _: True})())

        def prompt(text, **_):
            self.asked.append(text)
            return password

        monkeypatch.setattr(secrets_input.click, "prompt", prompt)


def test_a_password_is_asked_for_last(folder, tmp_path, capsys, monkeypatch):
    """Whatever can be refused without it is refused before."""
    person = Terminal(monkeypatch, PASSWORD)
    board = ("--board", "RPI_PICO_W", "--wifi", SSID)
    fails(capsys, "bad-argument", "provision", "D1", *board, "--port", "/dev/no-port")
    reachable(folder, capsys)
    fails(capsys, "not-serving", "provision", "D1", *board, "--port", "/dev/no-port")
    unplugged = ("--port", "/dev/no-port", "--offline")
    fails(capsys, "port-unknown", "provision", "D1", *board, *unplugged)
    bundle = tmp_path / "bundle"
    for wrong, code in (
        (("D1", "--app", "nobody"), "app-unknown"),
        (("D 1",), "bad-name"),
        (("D1", "--otp", "authority"), "bad-argument"),
        (("D1", "--wifi", "n" * 33), "bad-argument"),
    ):
        fails(capsys, code, "provision", *wrong, *board, "--bundle", str(bundle))
    bundle.touch()
    fails(capsys, "bad-argument", "provision", "D1", *board, "--bundle", str(bundle))
    bundle.unlink()
    listed = tmp_path / "list.csv"
    listed.write_text("device\nD1\nD1\n")
    fails(capsys, "bad-list", "provision", *board, "--batch", str(listed), "--offline")
    assert person.asked == []
    assert main.run(["provision", "D1", *board, "--bundle", str(bundle)]) == 0
    assert person.asked == [f"Password of Wi-Fi network {SSID}"]
    assert PASSWORD.encode() in bundle.read_bytes()
    fails(capsys, "device-exists", "provision", "D1", *board, "--bundle", f"{bundle}2")
    assert len(person.asked) == 1


def test_a_list_asks_once_for_all_boards(folder, tmp_path, capsys, monkeypatch):
    person = Terminal(monkeypatch, PASSWORD)
    reachable(folder, capsys)
    listed = tmp_path / "list.csv"
    listed.write_text("device\nD1\nD2\n")
    given = []
    monkeypatch.setattr(batch, "Batch", lambda _, entries, *__: given.extend(entries) or Done())
    call = ["provision", "--board", "RPI_PICO_W", "--wifi", SSID, "--batch", str(listed)]
    assert main.run([*call, "--offline"]) == 0
    assert len(person.asked) == 1
    assert [entry.order.networks[0].password for entry in given] == [PASSWORD] * 2


class Done:
    """A list of boards that are all made."""

    def run(self, *_):
        """Nothing to do."""

    def show(self):
        return 0


def test_a_device_without_tls_may_be_given_gateways(folder, tmp_path, capsys):
    """The broker's certificate is not for them, and no such device looks at it."""
    file = tmp_path / "bundle"
    call = ["provision", "D1", "--board", "UNIX", "--bundle", str(file), "--server"]
    with (folder / "warden.toml").open("a") as settings:
        settings.write("\n[connection]\nmessages_readable_on_the_network = true\nbare_port = 0\n")
        settings.write("[connection.type.relay]\ntls = false\n")
    fails(capsys, "bad-argument", *call, "192.168.7.1")  # a gateway has a port
    assert main.run([*call, "192.168.7.1:1883,192.168.8.1:1883"]) == 0
    made = cbor2.loads(file.read_bytes()[4:])
    assert made["brokers"] == [["192.168.7.1", 1883, 0], ["192.168.8.1", 1883, 0]]


def test_several_brokers_are_in_the_bundle(folder, tmp_path, capsys):
    file = tmp_path / "bundle"
    call = ["provision", "D1", "--board", "UNIX", "--bundle", str(file), "--server"]
    fails(capsys, "bad-argument", *call, "localhost,hub.example")  # not in the certificate
    assert not file.exists() and known(folder) is None
    assert main.run([*call, "localhost:8884,127.0.0.1=3"]) == 0
    made = cbor2.loads(file.read_bytes()[4:])
    settings = Fleet(folder).settings.broker
    assert made["brokers"] == [["localhost", 8884, 0], ["127.0.0.1", settings.device_port, 3]]
    assert made["broker"][:2] == ["localhost", 8884]
