"""`warden flash` and `warden harden` as a person and a script call them."""

from pathlib import Path

import click
import pytest
from cli_kit import fails, said
from firmware_kit import Signer, esp_firmware, uf2
from warden_host.boards import ports
from warden_host.cli import main
from warden_host.fleet import device_tree

S3 = ("harden", "--board", "ESP32_GENERIC_S3")
ADDRESS = "00:00:00:00:00:00"  # of a virtual chip


@pytest.fixture
def chip(tmp_path: Path) -> str:
    return str(tmp_path / "chip")


def types(monkeypatch, answer: str) -> None:
    monkeypatch.setattr(click, "prompt", lambda *_, **__: answer)


def test_the_plan_is_shown_and_nothing_burnt(chip: str, capsys) -> None:
    assert main.run([*S3, "--practise", chip]) == 0
    first = Path(chip).read_bytes()
    out = capsys.readouterr().out
    for word in ("root-key", "flash-encryption", "jtag", "secure-boot", "download-mode"):
        assert word in out
    assert "for ever: " in out
    assert "Nothing was burnt" in out
    assert main.run([*S3, "--practise", chip, "jtag", "--json"]) == 0
    record = said(capsys)
    assert record["burnt"] == []
    assert {row["step"]: row["state"] for row in record["plan"]}["jtag"] == "open"
    assert Path(chip).read_bytes() == first


def test_burnt_after_the_address_was_typed(chip: str, capsys, monkeypatch) -> None:
    types(monkeypatch, ADDRESS)
    assert main.run([*S3, "--practise", chip, "root-key", "jtag", "--burn"]) == 0
    out, err = capsys.readouterr()
    assert 'ROOT_KEY = ("efuse", "esp32s3", 0)' in out
    # Said twice: in the plan, and before the question.
    forever = "its key can't be read by anybody"
    assert forever in out
    assert forever in err
    assert "can NOT be undone" in err
    types(monkeypatch, "")  # a repeat has nothing to ask
    assert main.run([*S3, "--practise", chip, "root-key", "jtag", "--burn"]) == 0
    assert "burnt already" in capsys.readouterr().out
    assert main.run([*S3, "--practise", chip, "jtag", "--burn", "--json"]) == 0
    assert said(capsys)["burnt"] == []


@pytest.mark.parametrize("answer", ["", "yes", "BURN", ADDRESS[:-1], "00:00:00:00:00:01"])
def test_nothing_is_burnt_for_another_answer(answer, chip: str, capsys, monkeypatch) -> None:
    assert main.run([*S3, "--practise", chip]) == 0
    capsys.readouterr()
    before = Path(chip).read_bytes()
    types(monkeypatch, answer)
    fails(capsys, "bad-argument", *S3, "--practise", chip, "jtag", "--burn")
    assert Path(chip).read_bytes() == before


def test_secure_boot(chip: str, tmp_path: Path, capsys, monkeypatch) -> None:
    signer = Signer()
    key, firmware = tmp_path / "key.pem", tmp_path / "firmware.bin"
    key.write_bytes(signer.public)
    firmware.write_bytes(signer.firmware("esp32s3"))
    types(monkeypatch, ADDRESS)
    arguments = ["--key", str(key), "--firmware", str(firmware), "secure-boot", "--burn"]
    assert main.run([*S3, "--practise", chip, *arguments, "--json"]) == 0
    assert said(capsys)["burnt"] == ["secure-boot"]
    key.write_bytes(b"k" * 20000)
    fails(capsys, "bad-argument", *S3, "--practise", chip, *arguments)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), "bad-argument"),
        (("--port", "/dev/null", "--practise", "x"), "bad-argument"),
        (("--practise", "x", "--burn"), "bad-argument"),
        (("--practise", "x", "--key", "k"), "bad-argument"),
        (("--practise", "x", "secure-boot"), "not-applicable"),
        (("--port", "/dev/no-such-port"), "unreachable"),
        (("--port", "auto"), "port-unknown"),
    ],
)
def test_refused(arguments, code: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ports, "usb_ports", list)
    fails(capsys, code, *S3, *arguments)


@pytest.mark.parametrize("data", [b"notes", b"n" * 288, b"n" * 513])
def test_a_file_that_is_no_virtual_chip_stays_as_it_is(data: bytes, chip: str, capsys) -> None:
    Path(chip).write_bytes(data)
    fails(capsys, "bad-argument", *S3, "--practise", chip, "jtag", "--burn")
    assert Path(chip).read_bytes() == data
    fails(capsys, "bad-argument", *S3, "--practise", "/dev/null")
    fails(capsys, "filesystem", *S3, "--practise", "no-folder/chip")


@pytest.mark.parametrize("board", ["UNIX", "RPI_PICO_W"])
def test_boards_without_such_fuses(board: str, chip: str, capsys) -> None:
    fails(capsys, "not-applicable", "harden", "--board", board, "--practise", chip)


# --- flash ---------------------------------------------------------------------------------------


def test_a_uf2_is_copied_to_the_boot_volume(tmp_path: Path, capsys) -> None:
    (tmp_path / "INFO_UF2.TXT").write_text("Board-ID: RPI-RP2\n")
    firmware = tmp_path / "given.uf2"
    firmware.write_bytes(uf2(b"program." * 100))
    pico = ("flash", str(firmware), "--board", "RPI_PICO_W")
    assert main.run([*pico, "--volume", str(tmp_path)]) == 0
    assert "nothing back to compare" in capsys.readouterr().out
    assert (tmp_path / "firmware.uf2").read_bytes() == firmware.read_bytes()
    assert main.run([*pico, "--volume", str(tmp_path), "--json"]) == 0
    assert said(capsys) == {
        "ok": True,
        "board": "RPI_PICO_W",
        "at": str(tmp_path),
        "verified": False,
    }
    fails(capsys, "bad-argument", *pico, "--port", "/dev/null")
    fails(capsys, "bad-argument", *pico, "--volume", str(tmp_path), "--keep")
    fails(capsys, "no-boot-volume", *pico)
    (tmp_path / "none").mkdir()
    fails(capsys, "no-boot-volume", *pico, "--volume", str(tmp_path / "none"))
    assert list((tmp_path / "none").iterdir()) == []


def test_a_file_that_is_no_firmware(tmp_path: Path, capsys, monkeypatch) -> None:
    """Refused before the port is opened: there is none."""
    firmware = tmp_path / "firmware.bin"
    firmware.write_bytes(esp_firmware("esp32c3"))
    esp = ("flash", str(firmware), "--port", "/dev/no-such-port", "--board")
    fails(capsys, "wrong-board", *esp, "ESP32_GENERIC_S3")
    firmware.write_bytes(esp_firmware("esp32s3"))
    fails(capsys, "unreachable", *esp, "ESP32_GENERIC_S3")
    fails(capsys, "bad-argument", *esp, "ESP32_GENERIC_S3", "--volume", str(tmp_path))
    fails(capsys, "bad-argument", *esp, "UNIX")
    fails(capsys, "bad-argument", "flash", str(firmware), "--board", "ESP32_GENERIC_S3")
    fails(capsys, "filesystem", "flash", str(tmp_path / "no"), *esp[2:], "ESP32_GENERIC_S3")
    monkeypatch.setattr("warden_host.chips.image.MAX_BYTES", 100)
    fails(capsys, "bad-firmware", *esp, "ESP32_GENERIC_S3")
    assert main.run([*esp, "ESP32_GENERIC_S3"]) != 0
    assert "larger than any board's flash" in capsys.readouterr().err


def test_every_board_of_the_tree_names_its_hardware() -> None:
    from warden_host.chips.chip import board

    tree = device_tree.tree()
    for path in (tree.root / "boards").glob("*/board.py"):
        assert board(tree, path.parent.name).name == path.parent.name
