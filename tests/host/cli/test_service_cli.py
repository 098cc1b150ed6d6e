"""The systemd unit: what systemd itself says of it, and what is refused."""

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_kit import fails
from host_kit import refused
from process_kit import PATIENCE_S
from warden_host.cli import main
from warden_host.fleet.fleet import Fleet
from warden_host.service import sd_notify, systemd_unit


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A fleet of this user in a folder with letters that a unit must quote; root is no user."""
    monkeypatch.delenv("WARDEN_FLEET", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main.run(["init", "50% of $it"]) == 0
    if os.geteuid() == 0:
        account = SimpleNamespace(pw_name="warden", pw_uid=os.geteuid() + 1)
        monkeypatch.setattr(systemd_unit.pwd, "getpwuid", lambda _: account)
        monkeypatch.setattr(systemd_unit, "_owner", lambda _: account.pw_uid)
    monkeypatch.setenv("WARDEN_FLEET", str(tmp_path / "50% of $it"))
    return tmp_path


def test_systemd_takes_the_unit(served, capsys):
    assert main.run(["service", "install", "--folder", str(served), "--name", "fleet-unit"]) == 0
    path = served / "fleet-unit.service"
    out = capsys.readouterr().out
    assert "systemctl enable --now fleet-unit" in out
    assert path.stat().st_mode & 0o777 == 0o644
    text = path.read_text()
    assert f'ReadWritePaths="{served}/50%% of $it"' in text, "no variables in a path"
    assert f'--fleet "{served}/50%% of $$it"' in text
    allowed = re.search("^SystemCallFilter=(.*)$", text, re.MULTILINE)
    assert allowed is not None and {"adjtimex", "clock_adjtime"} <= set(allowed[1].split())
    assert "ProtectClock=yes" not in text, "clock_guard.is_unset would be refused, and say no"
    assert "User=root" not in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # The account need not be there to be judged.
    path.write_text("\n".join(one for one in text.split("\n") if not one.startswith("User=")))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_installed_unit_is_not_replaced_unasked(served, capsys):
    install = ["service", "install", "--folder", str(served)]
    path = served / "warden.service"
    assert main.run(install) == 0
    assert main.run([*install, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["changed"] is False
    path.write_text("mine")
    fails(capsys, "bad-argument", *install)
    assert path.read_text() == "mine"
    assert main.run([*install, "--yes"]) == 0
    assert main.run(["service", "show"]) == 0
    assert capsys.readouterr().out.endswith(path.read_text())


def test_names_that_a_unit_can_not_have(served, capsys):
    for name in ("../x", "a b", "ä", ""):
        fails(capsys, "bad-argument", "service", "install", "--name", name)
    fails(capsys, "bad-argument", "service", "show", "--user", "no-such-user")
    assert systemd_unit._quoted('a"b\\c') == '"a\\"b\\\\c"'
    with refused("bad-argument"):
        systemd_unit._quoted("a\nUser=root")
    assert systemd_unit._unquoted(Path("/50% of it")) == "/50%% of it"
    with refused("bad-argument"):
        systemd_unit._unquoted(Path("/a\nUser=root"))


def test_root_and_others_do_not_serve(served):
    fleet = Fleet(served / "50% of $it")
    with refused("bad-argument"):
        systemd_unit.unit(fleet, "root")
    fleet.root.chmod(0o700)


def test_a_port_below_1024_needs_a_capability(served):
    assert main.run(["init", "low", "--port", "883"]) == 0
    text = systemd_unit.unit(Fleet(served / "low"))
    assert text.count("=CAP_NET_BIND_SERVICE\n") == 2
    text = systemd_unit.unit(Fleet(served / "low"), firewall=True)
    assert text.count("=CAP_NET_BIND_SERVICE CAP_NET_ADMIN\n") == 2


def test_the_interpreter_behind_a_link_is_not_hidden(served, monkeypatch):
    """A virtual environment outside of a home may be one of an interpreter within it."""
    link = served / "python"
    monkeypatch.setattr(systemd_unit.sys, "executable", str(link))
    for target, word in (
        (Path("/home", "x/python3"), "read-only"),
        (Path("/usr/bin/python3"), "yes"),
    ):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert f"ProtectHome={word}\n" in systemd_unit.unit(Fleet(served / "50% of $it"))


def test_systemd_is_told(tmp_path, monkeypatch):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        sd_notify.notify("READY=1")
        assert manager.recv(100) == b"READY=1"
    sd_notify.notify("READY=1")  # a manager that went
    monkeypatch.setenv("NOTIFY_SOCKET", "")
    sd_notify.notify("READY=1")
