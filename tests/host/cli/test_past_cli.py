"""Test `show`, `log` and `explain`: what the fleet knows already, and the page of errors."""

import json
import time
from pathlib import Path

import pytest
from cli_kit import fails, said
from warden_host.cli import log, main
from warden_host.errors import CODES, HostError, class_of
from warden_host.fleet import errors_page
from warden_host.store import events
from warden_host.store.history import USUAL
from warden_host.store.store import Store

REPO = Path(__file__).resolve().parents[3]
SECRETS = ("k", "uid")


@pytest.fixture
def lived(folder, capsys):
    """A fleet with a past: two devices, one of them revoked."""
    for device in ("D1", "D2"):
        assert main.run(["provision", device, "--sim"]) == 0
    with Store(folder / "fleet.db") as store:
        store.add_event("D1", "authority", "temperature", '{"c": 21.5}')
        store.add_event("D2", "authority", "started", '{"on": 0}')
        store.write_events()
        store.add_incident("D1", "device", "tampered", "set_relay", 2)
        store.add_incident("D1", "device", "tampered", "set_relay", 3)
        store.add_incident("D1", "host", "stale-hello", "", 1)
    assert main.run(["revoke", "D2", "--yes"]) == 0
    capsys.readouterr()
    return folder


def rows(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_log_has_every_kind_in_order_of_time(lived, capsys):
    assert main.run(["log", "--json"]) == 0
    found = rows(capsys)
    assert [one["time"] for one in found] == sorted(one["time"] for one in found)
    assert [(one["kind"], one["device"]) for one in found] == [
        ("event", "D1"),
        ("event", "D2"),
        ("incident", "D1"),
        ("refused", "D1"),
        ("order", "D2"),
    ]
    assert found[0]["body"] == {"c": 21.5}
    assert (found[2]["code"], found[2]["name"], found[2]["n"]) == ("tampered", "set_relay", 5)
    assert found[2]["first"] < found[2]["time"]
    assert main.run(["log"]) == 0
    text = capsys.readouterr().out
    for words in (
        'temperature {"c": 21.5}',
        "reports tampered at set_relay, 5 times since ",
        "refused: stale-hello\n",
        "ordered: revoke",
    ):
        assert words in text


def test_log_filters(lived, capsys):
    for options, kinds in (
        (["D1"], ["event", "incident", "refused"]),
        (["--kind", "event", "--kind", "order"], ["event", "event", "order"]),
        (["-n", "2"], ["refused", "order"]),
        (["D1", "--since", "1h", "--kind", "incident"], ["incident"]),
        (["--since", "2199-01-01"], []),
    ):
        assert main.run(["log", *options, "--json"]) == 0
        assert [one["kind"] for one in rows(capsys)] == kinds, options
    fails(capsys, "device-unknown", "log", "D9")
    fails(capsys, "bad-argument", "log", "--since", "soon")
    fails(capsys, "bad-name", "log", "a/b")
    assert main.run(["log", "--kind", "rumour"]) == 2
    fails(capsys, "not-serving", "log", "--kind", "rollout", "--follow")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5min", 300), ("5m", 300), ("2h", 7200), ("1w", 604800)]
)
def test_an_age(text, seconds):
    assert log.moment(text, 1_000_000.0) == 1_000_000.0 - seconds


@pytest.mark.parametrize(
    "text", ["", "-1h", "1y", "9999999d", "2026-13-01", "0001-01-01", "x" * 99]
)
def test_what_is_no_time(text):
    with pytest.raises(HostError, match="bad-argument"):
        log.moment(text, time.time())


def test_rollouts_and_certificates_are_in_the_history(lived):
    with Store(lived / "fleet.db") as store:
        store._do("INSERT INTO rollouts VALUES (1, 'lock-2', 2, '{}', 'done', '', 5.0, 0)")
        store._add_step(1, "D1", 6.0, "Rejected", "trial-failed")
        store._do(
            "INSERT INTO certificates VALUES "
            "('ab12', 'D1', 'relay', 'D1', 'p256', 'host', 7.0, 9e9, x'', NULL, 8.0)"
        )
        found = store.entries("D1", kinds=("rollout", "certificate"))
        assert {one.kind for one in store.entries()} == set(USUAL)
    assert [(one.time, one.kind, one.name, one.code, one.text) for one in found] == [
        (6.0, "rollout", "Rejected", "trial-failed", "lock-2"),
        (7.0, "certificate", "issued", "", "ab12"),
        (8.0, "certificate", "revoked", "", "ab12"),
    ]
    lines = [log.as_event(one).text for one in found]
    assert lines[0] == "rollout of lock-2: Rejected trial-failed"


def test_the_newest_of_many(lived, monkeypatch):
    monkeypatch.setattr(events, "BATCH", 1000)
    with Store(lived / "fleet.db") as store:
        for number in range(300):
            store.add_event("D1", "authority", "count", json.dumps({"n": number}))
        store.write_events()
        found = store.entries("D1", kinds=("event",), most=3)
        assert [json.loads(one.text)["n"] for one in found] == [297, 298, 299]
        assert store.event_counts("D1", 0.0) == {"count": 300, "temperature": 1}


def test_an_event_of_another_form_is_damage(lived, capsys):
    with Store(lived / "fleet.db") as store:
        store._do("UPDATE events SET body = '[1'")
    fails(capsys, "database-damaged", "log", "D1")


def test_show_has_all_of_a_device_and_no_secret(lived, capsys):
    with Store(lived / "fleet.db") as store:
        pairs = store.device("D1").pairs
        store.add_to_group("ground", ["D1"])
        store.quarantine("D1", "its flash was played back")
    assert main.run(["show", "D1", "--json"]) == 0
    line = capsys.readouterr().out
    shown = json.loads(line)
    assert (shown["device"], shown["state"], shown["groups"]) == ("D1", "quarantined", ["ground"])
    assert shown["apps"][0] == {
        "app": "authority",
        "commands": ["set_relay", "get_relay"],
        "session": False,
    }
    assert shown["events_24h"] == {"temperature": 1}
    assert [one["code"] for one in shown["incidents"]] == ["tampered", "stale-hello"]
    assert [one["kind"] for one in shown["newest"]] == ["event", "incident", "refused"]
    assert main.run(["show", "D1"]) == 0
    text = capsys.readouterr().out
    for words in (
        "D1  quarantined",
        "its flash was played back",
        "ground",
        "no session; may set_relay, get_relay",
        "it reports tampered at set_relay, 5 times since",
        errors_page.entry("tampered").means[:40],
    ):
        assert words in text
    for pair in pairs:
        assert pair.k.hex() not in line + text
        assert pair.uid.hex() not in line + text
    assert main.run(["show", "D2"]) == 0
    assert "revoked, ordered 2" in capsys.readouterr().out
    fails(capsys, "device-unknown", "show", "D9")


# --- explain -------------------------------------------------------------------------------------


def test_every_code_of_both_sides_is_explained():
    """The page is read as it is: no second text could differ from it."""
    found = errors_page.entries()
    codes = {
        line.split("`")[1]
        for line in (REPO / "docs/errors.md").read_text().splitlines()
        if line.startswith("| `")
    }
    assert set(found) | set(errors_page.progress()) == codes >= CODES
    for code, one in found.items():
        assert one.means and one.do
        assert "](" not in one.means + one.do
        if code in CODES:
            assert one.class_name == class_of(code).__name__


def test_explain_one_all_and_none(capsys):
    assert main.run(["explain", "not-serving", "--json"]) == 0
    found = said(capsys)
    assert (found["class_name"], found["side"], found["exit_code"]) == ("UsageError", "host", 3)
    assert main.run(["explain", "Tampered"]) == 0
    assert "authentication tag" in capsys.readouterr().out
    assert main.run(["explain"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(errors_page.entries())
    assert main.run(["explain", "link-wait"]) == 0
    assert "link-wait: progress in a device's log" in capsys.readouterr().out
    assert main.run(["explain", "tamperd"]) == 2
    assert "similar: tampered" in capsys.readouterr().err


def test_links_become_words():
    assert errors_page._plain("Compare it with [tokens.md](tokens.md).") == (
        "Compare it with docs/tokens.md."
    )
    assert (
        errors_page._plain("[the table](tls-servers.md#all)") == "the table (docs/tls-servers.md)"
    )
    assert errors_page._plain("see [below](#limits)") == "see below"


# --- devices -------------------------------------------------------------------------------------


def listed(capsys, *options: str) -> list[str]:
    assert main.run(["devices", *options, "--json"]) == 0
    return [one["device"] for one in rows(capsys)]


def test_devices_are_filtered_sorted_and_paged(lived, capsys):
    for device, type_ in (("gate-1", "lock"), ("gate-2", "lamp"), ("gate-3", "lock")):
        assert main.run(["provision", device, "--sim", "--type", type_]) == 0
    with Store(lived / "fleet.db") as store:
        store.add_to_group("ground", ["gate-1", "D1"])
        store.set_last_seen("gate-3", 50.0)
        store.write_events()
    capsys.readouterr()
    for options, names in (
        ([], ["D1", "D2", "gate-1", "gate-2", "gate-3"]),
        (["gate-*"], ["gate-1", "gate-2", "gate-3"]),
        (["gate-*", "D1", "--type", "lock"], ["gate-1", "gate-3"]),
        (["--group", "ground"], ["D1", "gate-1"]),
        (["--state", "revoked"], ["D2"]),
        (["--state", "offline", "--state", "revoked"], ["D1", "D2", "gate-3"]),
        (["--app", "nobody"], []),
        (["--sort", "incidents", "--limit", "2"], ["D1", "D2"]),
        (["gate-*", "--sort", "seen"], ["gate-3", "gate-1", "gate-2"]),
        (["--sort", "type", "--limit", "2", "--page", "2"], ["gate-3", "D1"]),
        (["--sort", "state", "--limit", "1", "--page", "5"], ["D2"]),
    ):
        assert listed(capsys, *options) == names, options
    fails(capsys, "bad-argument", "devices", "--limit", "2", "--page", "4")
    fails(capsys, "group-unknown", "devices", "--group", "attic")
    assert main.run(["devices", "--state", "bored"]) == 2
    assert main.run(["devices", "--summary", "--json"]) == 0
    assert said(capsys) == {
        "ok": True,
        "devices": 5,
        "types": {"relay": 2, "lock": 2, "lamp": 1},
        "states": {"provisioned": 2, "offline": 2, "revoked": 1},
        "incidents": {"tampered": 5, "stale-hello": 1},
    }


def test_the_table_names_once_what_all_have(lived, capsys):
    assert main.run(["devices"]) == 0
    text = capsys.readouterr().out
    assert "all: type relay; mode sealed; connects by password; obeys authority" in text
    assert main.run(["provision", "D3", "--sim", "--type", "lamp"]) == 0
    capsys.readouterr()
    assert main.run(["devices", "--limit", "1"]) == 0
    assert "1 of 3; --page N" in capsys.readouterr().out
    assert main.run(["devices", "nothing*"]) == 0
    assert "none of the 3 devices" in capsys.readouterr().out
    assert main.run(["devices", "--summary"]) == 0
    assert "2 relay, 1 lamp" in capsys.readouterr().out
