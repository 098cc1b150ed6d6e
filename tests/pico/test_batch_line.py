"""`warden provision --batch` with emulated Picos on the line, one plugged in after the other."""

import json
from pathlib import Path

import pytest
import server_kit
from board_kit import STEPS
from fleet_kit import World, forwarding, leaf
from pico_kit import HOST, NETWORK, PATIENCE_S, Pico, build_image
from port_kit import free_ports
from port_model import Listed
from serial.tools import list_ports
from warden_host.cli import exit_codes, main
from warden_host.service.run import serving


def test_two_picos_in_turn(
    tmp_path: Path,
    firmware: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first one connects; the list is gone on with for the second one, at another time."""
    monkeypatch.setattr(server_kit, "PATIENCE_S", PATIENCE_S)
    (port,) = free_ports(1)
    world = World(tmp_path, device_port=port, host=HOST)
    password, listed, sheet = (tmp_path / name for name in ("wifi", "devices.csv", "labels.pdf"))
    password.touch(0o600)
    password.write_text("any password will do")
    listed.write_text("device,type\nD1,relay\nD2,relay\n")
    argv = ["--fleet", str(world.fleet.root), "provision", "--batch", str(listed), "--json"]
    argv += ["--board", "RPI_PICO_W", "--wifi", NETWORK.ssid]
    argv += ["--wifi-password-file", str(password), "--keepalive-s", "3600"]
    argv += ["--labels", str(sheet), "--patience", "60"]
    (tmp_path / "root").mkdir()

    def run(number: int, *more: str) -> tuple[int, list[dict[str, str]]]:
        image = build_image(tmp_path / "root", tmp_path / f"flash{number}.littlefs")
        with Pico(firmware, image) as pico:
            plugged = [Listed(pico.port(), str(number))]
            monkeypatch.setattr(list_ports, "comports", lambda: plugged)
            capsys.readouterr()
            code = main.run([*argv, *more])
        printed = capsys.readouterr().out
        print(printed)
        return code, [json.loads(line) for line in printed.splitlines()]

    # The broker itself would drop a client that needs 90 s.
    with serving(world.fleet, world.news.add), forwarding(world, leaf(world, tmp_path), port):
        code, first = run(1)
    assert code == exit_codes.UNKNOWN  # no other board came
    assert [each["step"] for each in first if each.get("state") == "done"] == list(STEPS)
    assert (first[-1]["made"], first[-1]["waiting"]) == (["D1"], ["D2"])
    code, second = run(2, "--offline")
    assert code == 0
    assert second[-1]["made"] == ["D2"]
    assert sheet.read_bytes().startswith(b"%PDF")
    entries = [json.loads(line) for line in Path(first[-1]["log"]).read_text().splitlines()]
    assert [(entry["device"], entry["result"]) for entry in entries] == [
        ("D1", "ok"),
        ("D2", "ok"),
    ]
    assert all(entry["chip"] for entry in entries)
