"""`warden provision --batch`: the list checked as a whole, boards found, cut and gone on with."""

import json
import os
import threading
from pathlib import Path

import pytest
from cli_kit import fails, said
from port_model import BoardModel, Listed
from process_kit import PATIENCE_S
from serial.tools import list_ports
from warden_host.boards import batch
from warden_host.boards.records import BoardRecord
from warden_host.cli import exit_codes, main
from warden_host.devices.provision import Order
from warden_host.devices.token_terms import TokenTerms
from warden_host.errors import HostError
from warden_host.fleet import board_file, device_tree
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.store.store import Device, Store

LINE = ("provision", "--board", "UNIX", "--offline", "--json", "--batch")


@pytest.fixture
def line(tmp_path, micropython, monkeypatch):
    """Three boards on one USB hub."""
    monkeypatch.delenv("WARDEN_UMQTT", raising=False)
    device_tree.umqtt()
    models = [
        BoardModel(tmp_path / f"board{number}", micropython, unique_id=bytes([number + 1] * 8))
        for number in range(3)
    ]
    found = [Listed(model.port, str(number)) for number, model in enumerate(models)]
    monkeypatch.setattr(list_ports, "comports", lambda: found)
    for model in models:
        model.__enter__()
    yield models
    for model in models:
        model.__exit__()


def listed(folder, text):
    path = folder.parent / "devices.csv"
    path.write_text(text)
    return str(path)


def records(capsys):
    return [json.loads(each) for each in capsys.readouterr().out.splitlines()]


def log(folder):
    return [
        json.loads(each) for each in (folder / "boards" / "log.jsonl").read_text().splitlines()
    ]


def test_three_boards_one_after_the_other(folder, line, tmp_path, capsys):
    path = listed(folder, "device,type\nD1,relay\nD2,lamp\nD3,\n")
    sheet = tmp_path / "labels.pdf"
    monkey = [*LINE, path, "--labels", str(sheet)]
    assert main.run(monkey) == 0
    summary = records(capsys)[-1]
    assert summary["ok"] and summary["made"] == ["D1", "D2", "D3"]
    with Store(folder / "fleet.db") as store:
        assert [(each.device, each.type) for each in store.devices()] == [
            ("D1", "relay"),
            ("D2", "lamp"),
            ("D3", "relay"),
        ]
    assert [(entry["device"], entry["result"]) for entry in log(folder)] == [
        ("D1", "ok"),
        ("D2", "ok"),
        ("D3", "ok"),
    ]
    assert len({entry["chip"] for entry in log(folder)}) == 3
    assert sheet.read_bytes().startswith(b"%PDF")
    assert sheet.stat().st_mode & 0o777 == 0o600
    assert main.run(monkey) == 0  # all are done: no board is asked anything
    assert records(capsys)[-1]["made"] == []


def test_more_devices_than_boards(folder, line, capsys):
    """The rest is named, and done when boards come."""
    path = listed(folder, "device\nD1\nD2\n")
    assert main.run([*LINE, path, "--port", line[0].port]) == exit_codes.UNKNOWN
    summary = records(capsys)[-1]
    assert summary["waiting"] == ["D2"] and not summary["ok"] and summary["done"] == 1
    assert summary["error"]["code"] == "port-unknown"


def test_a_board_that_fails_does_not_end_the_line(folder, line, capsys):
    """The next one becomes what it was to be."""
    line[0].on_input = lambda data, at: None if at > 20000 else data  # it resets again and again
    path = listed(folder, "device\nD1\nD2\n")
    assert main.run([*LINE, path]) == 0
    summary = records(capsys)[-1]
    assert summary["made"] == ["D1", "D2"] and summary["failed"] == {}
    results = [(entry["device"], entry["result"]) for entry in log(folder)]
    assert results == [("D1", "board-lost"), ("D1", "ok"), ("D2", "ok")]


def test_a_line_that_ends_with_a_failure(folder, line, capsys):
    for model in line:
        model.on_input = lambda data, at: None if at > 20000 else data
    path = listed(folder, "device\nD1\nD2\n")
    assert main.run([*LINE, path]) == exit_codes.OFFLINE
    summary = records(capsys)[-1]
    assert summary["failed"] == {"D1": "board-lost"} and summary["waiting"] == ["D2"]
    for model in line:
        model.on_input = lambda data, _: data
        model.wait_port()
    assert main.run([*LINE, path]) == 0


def test_boards_in_parallel_in_waves_after_a_stop(folder, line, tmp_path, capsys):
    """Begun anew with --again, and gone on with by --resume."""
    path = listed(folder, "device\nD1\nD2\nD3\n")
    begin = threading.Barrier(2)  # passes only when two boards are asked at one time
    began = set()

    def begins(number):
        def on_input(data, at):
            if number not in began:
                began.add(number)
                begin.wait(PATIENCE_S)
            return data

        return on_input

    line[0].on_input, line[1].on_input = begins(0), begins(1)
    line[2].on_input = lambda data, at: None if at > 20000 else data
    waves = ("--at-once", "2", "--wave", "50%", "--max-failures", "0", "--again")
    assert main.run([*LINE, path, *waves]) == exit_codes.OFFLINE
    *lines, summary = records(capsys)
    turns = [(each["device"], each["result"], each["n"]) for each in lines if "result" in each]

    assert sorted(turns[:2], key=lambda turn: turn[2]) == turns[:2]
    assert {turn[:2] for turn in turns[:2]} == {("D1", "ok"), ("D2", "ok")}
    assert turns[2:] == [("D3", "board-lost", 3)]
    assert summary["failed"] == {"D3": "board-lost"} and sorted(summary["made"]) == ["D1", "D2"]
    for model in line:
        model.on_input = lambda data, _: data
        model.wait_port()
    port = ("--port", line[2].port)
    assert main.run([*LINE, path, *waves, *port, "--resume"]) == 0
    summary = records(capsys)[-1]
    assert summary["made"] == ["D3"] and summary["done"] == 3
    fails(capsys, "not-applicable", *LINE[:-2], "--batch", path, *waves, "--resume")
    assert main.run(["provision", "D9", "--sim", "--resume"]) == exit_codes.USAGE


BAD = """device,type,board,source,apps,otp
D1,relay,,,,
,relay,,,,
D1,lamp,,,,
a b,,,,,
D3,no/type,,,,
D4,,NOWHERE,,,
D5,,,missing.py,,
D6,,,,home,
D7,,RPI_PICO_W,,,
D8,,UNIX_PIN,,,
D9,,,,,fingerprint
D10,,UNIX_PIN,,,authority
D11,,,,,totp
=cmd|' /C calc'!A0,,,,,
"D
12",,,,,
"""


def test_every_error_is_told_before_a_board_is_touched(folder, line, capsys):
    path = listed(folder, BAD)
    before = [model.received for model in line]
    assert main.run([*LINE, path]) == 2
    error = said(capsys)["error"]
    assert error["code"] == "bad-list"
    for number, text in enumerate(
        (
            "device ID ''",
            "D1 is in line 2, too",
            "device ID 'a b'",
            "device type 'no/type'",
            "no board 'NOWHERE'",
            "no application at missing.py",
            "no application home",
            "joins Wi-Fi",
            "wants a PIN",
            "otp is one of none, ",
            "wants a PIN",
            "no secret for codes of D11",
            "device ID",
        ),
        3,
    ):
        assert f"line {number}: " in error["text"] and text in error["text"], text
    assert "line 17: device ID" in error["text"]  # where the field of two lines ends
    assert all(char.isprintable() for char in error["text"])
    assert [model.received for model in line] == before
    with Store(folder / "fleet.db") as store:
        assert store.names() == []


@pytest.mark.parametrize(
    ("text", "said_"),
    [
        ("type\nrelay\n", "no column device"),
        ("device,color\nD1,red\n", "unknown: color"),
        ("device\n", "names no device"),
        ("", "no column device"),
        ('device\n"D1\n', "no CSV"),
        ("device,type\nD1\n", "not as many fields"),
        ("device\nD1,relay\n", "not as many fields"),
        ("device;type\nD1;relay\n", "between commas"),
        ("device,type,device\nD1,relay,D2\n", "twice"),
        ("device\n" + "D\n" * 10_001, "more than 10,000"),
        ("device,source\nD1,a\0b\n", "no application"),
        ("device\n" + "x" * 150_000 + "\n", "no CSV"),
        ("device\n" + "x" * 100_000 + "\n", "device ID"),
        ("device\n" + "x" * (1 << 20), "more than"),
    ],
)
def test_a_list_that_is_none(folder, capsys, text, said_):
    assert main.run([*LINE, listed(folder, text)]) == 2
    found = said(capsys)["error"]["text"]
    assert said_ in found and len(found) < 1000


def test_a_spreadsheets_list(folder):
    """A mark at the beginning, carriage returns, quotes and blanks."""
    path = listed(folder, '\ufeff"device", type\r\n"D1", lamp \r\n\r\nD2,\r\n')
    found = read_list(folder, path)
    assert [(each.line, each.order.device, each.order.type) for each in found] == [
        (2, "D1", "lamp"),
        (4, "D2", "relay"),
    ]


def read_list(folder, path, **template):
    def gate(board, source):
        return None if source in (None, "none") else policy.otp(source=source)

    fleet = Fleet(folder)
    order = Order("", **({"type": "relay", "board": "UNIX"} | template))
    with Store(fleet.database) as store:
        return batch.read(Path(path), order, gate, fleet, store)


def test_each_line_has_its_gate_and_its_pin(folder):
    path = listed(
        folder,
        "device,board,otp,pin\nD1,UNIX_PIN,,1234\nD2,UNIX_PIN,,\nD3,,authority,\nD4,,none,\n",
    )
    os.chmod(path, 0o600)
    found = [each.order for each in read_list(folder, path, pin=b"plain")]
    assert [order.pin for order in found] == [b"1234", b"plain", b"", b""]
    assert [order.otp and order.otp["source"] for order in found] == [
        None,
        None,
        "authority",
        None,
    ]
    assert "1234" not in repr(found)


def test_a_list_with_pins_is_a_secret(folder, capsys):
    path = listed(folder, "device,pin\nD1,\n")
    os.chmod(path, 0o644)
    fails(capsys, "key-permissions", *LINE[:-2], "--batch", path)


@pytest.mark.parametrize("line_", ["D1,UNIX,4711", "D1,UNIX_PIN," + "4711" * 33])
def test_no_error_quotes_a_pin(folder, capsys, line_):
    path = listed(folder, f"device,board,pin\n{line_}\n")
    os.chmod(path, 0o600)
    assert main.run([*LINE, path]) == 2
    assert "PIN" in (text := capsys.readouterr().out) and "4711" not in text


@pytest.mark.parametrize("pin", [b"", b"1\n2", b"1\r2", b"1" * 129])
def test_a_pin_for_all_lines_that_no_board_takes(folder, pin):
    path = listed(folder, "device,board\nD1,UNIX_PIN\n")
    with pytest.raises(HostError, match="bad-list: .*wants a PIN"):
        read_list(folder, path, pin=pin)


def test_the_options_gate_holds_for_each_board(folder, capsys):
    """Without --board, too: it was left out then."""
    path = listed(folder, "device,board\nD1,UNIX\n")
    argv = ["provision", "--otp", "totp", "--offline", "--json", "--batch", path]
    assert main.run(argv) == 2
    assert "no secret for codes of D1" in said(capsys)["error"]["text"]


def test_a_board_that_was_begun_has_its_secret_for_codes(folder):
    """Once its vault holds it the fleet does not: the same list goes on all the same."""
    path = listed(folder, "device,board,otp\nD1,UNIX,totp\n")
    with pytest.raises(HostError, match="no secret for codes of D1"):
        read_list(folder, path)
    with Store(folder / "fleet.db") as store:
        store.add_device(Device("D1", "relay", "UNIX", "sealed", policy.record()))
    BoardRecord("D1", "aa", "UNIX", live=False).save(Fleet(folder))
    assert [entry.done for entry in read_list(folder, path)] == [False]
    with pytest.raises(HostError, match="no secret for codes of D1"):
        read_list(folder, path, again=True)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ({"board": ""}, "no board is named"),
        ({"commands": ("wipe",)}, "'wipe' belongs"),
        ({"token": TokenTerms("https://id.example/t", "D1", b"secret")}, "without a token"),
    ],
)
def test_what_no_device_of_the_list_can_be(folder, template, text):
    """Told with the list, not by each board."""
    with pytest.raises(HostError, match=f"bad-list: .*line 2: .*{text}"):
        read_list(folder, listed(folder, "device\nD1\n"), **template)


def test_a_list_for_a_server_of_another_name(folder):
    settings = folder / "warden.toml"
    settings.write_text(settings.read_text().replace('"127.0.0.1"', '"192.0.2.1"', 1))
    with pytest.raises(HostError, match="certificate-name"):
        read_list(folder, listed(folder, "device\nD1\n"))


def test_boards_that_are_to_connect_need_the_service(folder, capsys):
    path = listed(folder, "device\nD1\n")
    fails(capsys, "not-serving", "provision", "--board", "UNIX", "--batch", path)


def test_a_board_py_is_for_one_kind_of_board(folder):
    path = listed(folder, "device,board\nD1,UNIX_PIN\n")
    with pytest.raises(HostError, match="bad-list: .*is for UNIX, not for UNIX_PIN"):
        read_list(folder, path, own_board=board_file.load("UNIX"))


def test_a_list_that_is_no_text(folder):
    path = Path(listed(folder, ""))
    path.write_bytes(b"device\nD\xff\n")
    with pytest.raises(HostError, match="bad-list: .*is not UTF-8"):
        read_list(folder, path)


def test_a_record_without_a_key_is_damage(folder):
    fleet = Fleet(folder)
    BoardRecord("D1", "aa", "UNIX", live=False).save(fleet)
    (path,) = (path for path in folder.rglob("D1*.json"))
    path.write_text(path.read_text().replace('"chip"', '"chop"'))
    with pytest.raises(HostError, match="database-damaged"):
        BoardRecord.load(fleet, "D1")


def test_a_list_that_is_not_there(folder, capsys):
    fails(capsys, "bad-list", *LINE[:-2], "--batch", "nowhere.csv")


def test_labels_that_could_not_be_written_at_the_end(folder, line, tmp_path, capsys):
    """They are refused before a board is touched."""
    before = [model.received for model in line]
    path = listed(folder, "device\n" + "".join(f"D{number}\n" for number in range(201)))
    (tmp_path / "folder.pdf").mkdir()
    for name, text in (
        ("labels.svg", ".pdf or .png"),
        ("labels.png", "at most 200"),
        ("none/labels.pdf", "none/labels.pdf"),
        ("folder.pdf", "folder.pdf"),
    ):
        assert main.run([*LINE, path, "--labels", str(tmp_path / name)]) == exit_codes.USAGE
        error = said(capsys)["error"]
        assert error["code"] == "bad-argument" and text in error["text"]
    assert [model.received for model in line] == before


def test_a_device_of_this_fleet_is_not_replaced(folder, line, capsys):
    assert main.run(["provision", "D1", "--sim"]) == 0
    capsys.readouterr()
    assert main.run([*LINE, listed(folder, "device\nD1\n")]) == 2
    assert "provisioned already" in said(capsys)["error"]["text"]


def test_a_board_that_was_begun_goes_on_as_the_same_device(folder, tmp_path, capsys):
    fleet = Fleet(folder)
    entries = [batch.Entry(2 + n, Order(f"D{n}", "relay"), False) for n in range(3)]
    assert batch.choose(entries, [], "aa", fleet) is entries[0]
    BoardRecord("D1", "aa", "UNIX", live=False).save(fleet)
    assert batch.choose(entries, [], "aa", fleet) is entries[1]
    assert batch.choose(entries[:1], entries[1:], "aa", fleet) is entries[1]  # of a later wave
    assert batch.choose(entries[1:2], entries[2:], "bb", fleet) is None
    assert batch.choose(entries, [], "bb", fleet) is entries[0]
    BoardRecord("D0", "cc", "UNIX", live=False).save(fleet)
    BoardRecord("D2", "dd", "UNIX", live=False).save(fleet)
    assert batch.choose(entries, [], "bb", fleet) is None
