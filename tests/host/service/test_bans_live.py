"""Guessing at a real broker, blocked by a real nftables, in network namespaces."""

from pathlib import Path

import namespace_kit
import pytest


def test_guessing_ends_at_the_firewall(tmp_path: Path) -> None:
    why = namespace_kit.missing("nft")
    if why:
        pytest.skip(why)
    lab = Path(__file__).with_name("bans_lab.py")
    found = namespace_kit.run_apart(lab, str(tmp_path))
    log = found.pop("log")
    found.pop("banned_s")
    assert found == {
        "guesses": [5, 5, 5],
        "blocked": True,
        "right_password_blocked": "silent",
        "home": 0,
        "home_guesses": [5, 5, 5, 5],
        "home_again": 0,
        "many": [5] * 20,
        "one_of_many_blocked": True,
        "first_of_many_open": 0,
        "lift": 0,
        "after_lift": 0,
        "add": 0,
        "added_blocked": True,
        "listed_blocked": True,
        "only_allowed": [0, True],
        "none_active": 0,
        "after_restart_blocked": True,
        "list": 0,
    }
    assert [line.split(" ", 1)[1] for line in log[:4]] == [
        "refused 10.77.1.1 1/3 client=",
        "refused 10.77.1.1 2/3 client=",
        "refused 10.77.1.1 3/3 client=",
        "banned 10.77.1.1 attempts=3",
    ]
    assert any("slowed 10.77.1.2" in line for line in log)
    assert any("banned 10.77.1.3 attempts=0" in line for line in log)
    assert any("lifted 10.77.1.1" in line for line in log)


def test_fail2ban_follows_the_watch(tmp_path: Path) -> None:
    why = namespace_kit.missing("nft", "fail2ban-server", "fail2ban-client")
    if why:
        pytest.skip(why)
    lab = Path(__file__).with_name("fail2ban_lab.py")
    found = namespace_kit.run_apart(lab, str(tmp_path))
    assert found["banned"] == ["2001:db8::/64", "203.0.113.7"]
    assert "elements = { 203.0.113.7 }" in found["rules"]
    assert "elements = { 2001:db8::/64 }" in found["rules"]
    assert "tcp dport { 8883, 8884 } ip saddr @banned4 drop" in found["rules"]
    assert "203.0.113.9" not in found["rules"]
