"""The rules that `warden firewall` writes, and what it finds open."""

import shutil
import subprocess
from pathlib import Path

import pytest
from host_kit import new_fleet, refused
from namespace_kit import PATH
from warden_host.bans import firewall, open_ports, ruleset
from warden_host.bans.networks import parse_network
from warden_host.bans.open_ports import Listening
from warden_host.bans.ruleset import Wanted
from warden_host.cli import main

NETWORKS = (parse_network("192.168.1.0/24"), parse_network("2001:db8::/64"))
TARGETS = [
    firewall.Target("broker", "203.0.113.7", (8883, 8884)),
    firewall.token_server("https://[2001:db8:1::7]/token"),
    firewall.update_server("localhost:8443"),
    firewall.time_server("192.0.2.1"),
    firewall.name_server("192.0.2.2"),
]


def wanted(active: str = "") -> Wanted:
    return Wanted((8883, 8884), NETWORKS, {12: NETWORKS[:1], 120: NETWORKS[1:]}, NETWORKS, active)


SCRIPTS = {
    "host": firewall.host_rules("home", firewall.HostTerms((8883, 8884), NETWORKS)),
    "open host": firewall.host_rules("home", firewall.HostTerms((8883,), (), (), 0)),
    "devices": firewall.device_rules("home", NETWORKS, TARGETS),
    "bans": ruleset.whole("warden_bans_8883", wanted()),
    "allow": ruleset.whole("warden_bans_8883", wanted("allow")),
    "block": ruleset.whole("warden_bans_8883", wanted("block")),
    "none": ruleset.whole("warden_bans_8883", Wanted((8883,))),
}


def test_nftables_takes_the_rules(tmp_path: Path) -> None:
    nft = shutil.which("nft", path=PATH)
    if nft is None:
        pytest.skip("nft is not installed")
    path = tmp_path / "rules.nft"
    for name, text in SCRIPTS.items():
        path.write_text(text)
        done = subprocess.run(
            [nft, "--check", "--file", str(path)], capture_output=True, text=True, timeout=240
        )
        if "not permitted" in done.stderr:
            pytest.skip("nft asks the kernel, which this user may not")
        assert (name, done.returncode, done.stderr) == (name, 0, "")


def test_what_the_rules_say():
    host = SCRIPTS["host"]
    assert "policy drop" in host
    assert "ip saddr @networks4 tcp dport { 8883, 8884 } accept" in host
    assert "limit rate over 60/minute" in host
    assert "tcp dport { 22 } accept" in host
    assert "flush ruleset" not in host  # the bans are in a table of their own
    assert "limit rate" not in SCRIPTS["open host"]
    devices = SCRIPTS["devices"]
    for rule in (
        "ip daddr 203.0.113.7 tcp dport { 8883, 8884 } accept",
        "ip6 daddr 2001:db8:1::7 tcp dport { 443 } accept",
        "ip daddr 127.0.0.1 tcp dport { 8443 } accept",
        "ip daddr 192.0.2.1 udp dport { 123 } accept",
        "ip daddr @devices4 counter drop",
    ):
        assert rule in devices
    judged = SCRIPTS["bans"].split("chain judged {\n")[1].split("\n")
    assert judged[0].strip() == 'iif "lo" accept'  # a banned network may hold this host's address
    assert "@banned4 counter drop" in judged[1]
    assert SCRIPTS["none"].endswith("delete table inet warden_bans_8883\n")


@pytest.mark.parametrize("text", ["", "host:0", "host:x", "a b", "host;drop", "https:///x", "ä"])
def test_what_is_no_server(text):
    with refused("bad-argument"):
        firewall.token_server(text)


def test_a_name_without_address():
    with refused("unreachable"):
        firewall.addresses("nowhere.invalid")


def write_proc(folder: Path) -> Path:
    (folder / "net").mkdir(parents=True)
    head = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid t inode\n"
    )
    tail = "00:00000000 00000000  1000 0 {}\n"
    (folder / "net/tcp").write_text(
        head
        + "   0: 0100007F:22B2 00000000:0000 0A 00000000:00000000 " + tail.format(11)
        + "   1: 00000000:22B3 00000000:0000 0A 00000000:00000000 " + tail.format(12)
        + "   2: 00000000:18EB 00000000:0000 0A 00000000:00000000 " + tail.format(13)
        + "   3: 0100007F:ABCD 0100007F:22B3 01 00000000:00000000 " + tail.format(14)
    )  # fmt: skip
    (folder / "net/tcp6").write_text(
        head
        + "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A "
        + "00000000:00000000 " + tail.format(15)
    )  # fmt: skip
    (folder / "net/udp").write_text(
        head + "   0: 0100007F:0035 00000000:0000 07 00000000:00000000 " + tail.format(16)
    )
    (folder / "7/fd").mkdir(parents=True)
    (folder / "7/comm").write_text("redis-server\n")
    (folder / "7/fd/3").symlink_to("socket:[13]")
    return folder


def test_what_is_open(tmp_path):
    found = open_ports.listening(write_proc(tmp_path))
    assert Listening("tcp", "0.0.0.0", 6379, "redis-server") in found
    assert Listening("tcp", "::", 22) in found
    assert Listening("udp", "127.0.0.1", 53) in found
    assert len(found) == 5
    judged = {
        one.text: one.what for one in open_ports.check_ports(found, {8883, 8884}, 8882, {22})
    }
    assert judged == {
        "tcp [::]:22: as you said": "ok",
        "tcp 0.0.0.0:6379 (redis-server): none of the fleet's": "open",
        "tcp 0.0.0.0:8883: the broker, for devices and applications": "ok",
        "nothing listens on the broker's port 8884": "missing",
    }
    exposed = list(open_ports.check_ports([Listening("tcp", "0.0.0.0", 8882)], (), 8882, ()))
    assert [one.what for one in exposed] == ["exposed"]
    with refused("not-applicable"):
        open_ports.listening(tmp_path / "none")


def test_the_commands(tmp_path, capsys, monkeypatch):
    fleet = new_fleet(tmp_path)
    port = fleet.settings.broker.port
    call = ["--fleet", str(fleet.root), "firewall"]
    output = tmp_path / "rules.nft"
    assert main.run([*call, "host", "--network", "10.0.0.0/8", "--also", "2222"]) == 0
    assert f"tcp dport {{ {port} }} accept" in (printed := capsys.readouterr().out)
    assert "2222" in printed
    assert main.run([*call, "host", "--output", str(output)]) == 0
    assert "policy drop" in output.read_text()
    devices = [*call, "devices", "--network", "10.0.0.0/8", "--dns", "10.0.0.1", "--json"]
    assert main.run(devices) == 0
    assert "10.0.0.1 udp dport { 53 }" in capsys.readouterr().out
    assert main.run([*call, "devices"]) == 2
    listening = [Listening("tcp", "0.0.0.0", port), Listening("udp", "0.0.0.0", 111, "rpcbind")]
    monkeypatch.setattr(open_ports, "listening", lambda: listening)
    capsys.readouterr()
    assert main.run([*call, "check", "--json"]) == 1
    assert '"program": "rpcbind"' in capsys.readouterr().out
    assert main.run([*call, "check", "--also", "111"]) == 0
    monkeypatch.setattr(open_ports, "listening", list)
    assert main.run([*call, "check"]) == 0
    assert "is not running" in capsys.readouterr().out
