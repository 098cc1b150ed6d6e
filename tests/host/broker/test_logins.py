"""Refused log-ins in the logs of three versions of mosquitto, their reasons and their repeats."""

import pytest
from broker_kit import Client
from broker_log_kit import SAMPLES
from host_kit import new_fleet
from warden_host.alarms.rules import LOGIN_REFUSED
from warden_host.broker import logins
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.mosquitto import broker, registry
from warden_host.broker.mosquitto.logins import LoginReader, RefusedLogin
from warden_host.devices import setup
from warden_host.engine.events import FleetEvent
from warden_host.protocol import policy
from warden_host.service import login_watch
from warden_host.service.login_watch import LoginWatch
from warden_host.store.store import App, Device, Store


def read(text: str, reader: LoginReader | None = None) -> list[RefusedLogin]:
    lines = [f"2026-11-29T22:12:07: {line}" for line in text.splitlines()]
    return list((reader or LoginReader()).read(lines))


@pytest.mark.parametrize("version", SAMPLES)
def test_each_versions_words(version):
    text, client = SAMPLES[version]
    first, second = read(text)
    assert (first.code, first.client, first.addresses) == ("mqtt-refused", client, ("10.0.0.7",))
    assert (second.code, second.addresses) == ("certificate-untrusted", ("10.0.0.7",))
    assert second.client == ""


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (
            "Client connection from 10.0.0.9 failed: error:0A00009C:SSL routines::http request.",
            "no-tls",
        ),
        ("OpenSSL Error[0]: error:0A00010B:SSL routines::wrong version number", "no-tls"),
        (
            "OpenSSL Error[0]: error:0A0000C7:SSL routines::peer did not return a certificate",
            "own-certificate-refused",
        ),
        ("OpenSSL Error[0]: error:0A000126:SSL routines::unexpected eof while reading", None),
        ("Client d:lock:D1 disconnected.", None),
        ("mosquitto version 2.0.11 running", None),
        ("Client ", None),
    ],
)
def test_other_lines(line, code):
    found = read(f"New connection from 10.0.0.9:1 on port 8883.\n{line}")
    assert [one.code for one in found] == ([] if code is None else [code])
    assert all(one.addresses == ("10.0.0.9",) for one in found)


def test_a_client_without_a_name_is_one_that_was_there_before():
    reader = LoginReader()
    read(
        """\
New connection from 10.0.0.7:1 on port 8883.
New client connected from 10.0.0.7:1 as d:lock:D1 (p2, c1, k60, u'd:lock:D1').
New connection from 10.0.0.7:2 on port 8883.
New client connected from 10.0.0.7:2 as d:lock:D2 (p2, c1, k60, u'd:lock:D2').
New connection from 10.0.0.8:3 on port 8883.
New client connected from 10.0.0.8:3 as d:lock:D3 (p2, c1, k60, u'd:lock:D3').
Client d:lock:D1 closed its connection.
Client d:lock:D3 has exceeded timeout, disconnecting.
""",
        reader,
    )
    refused = "New connection from 10.0.0.7:4 on port 8883.\n" + (
        "Client <unknown> disconnected, not authorised."
    )
    (one,) = read(refused, reader)
    assert one.absent == ("d:lock:D1",)
    # Two that did not log in yet: it is one of them.
    (one,) = read("New connection from 10.0.0.8:5 on port 8883.\n" + refused, reader)
    assert one.addresses == ("10.0.0.8", "10.0.0.7")
    assert one.absent == ("d:lock:D1", "d:lock:D3")
    # A broker that starts anew has no client.
    (one,) = read("mosquitto version 2.0.11 starting\n" + refused, reader)
    assert one.absent == ("d:lock:D1", "d:lock:D2")


def test_what_strangers_cause_is_bounded():
    reader = LoginReader()
    for port in range(500):
        read(f"New connection from 10.0.{port % 256}.9:{port} on port 8883.", reader)
    assert len(reader._pending) == 64
    (one,) = read("Client <unknown> disconnected, not authorised.", reader)
    assert len(one.addresses) == 3


def test_clients_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr("warden_host.broker.mosquitto.logins._MOST_KNOWN", 3)
    reader = LoginReader()
    for port in range(10):
        read(f"New client connected from 10.0.0.7:{port} as d:lock:D{port} (p2, c1).", reader)
    assert list(reader._hosts) == ["d:lock:D7", "d:lock:D8", "d:lock:D9"]
    assert reader._online == set(reader._hosts)


def test_a_connection_of_minutes_ago_is_not_the_one_that_was_refused():
    reader = LoginReader()
    read("New connection from 10.0.0.7:1 on port 8883.", reader)
    later = "2026-11-29T22:14:07: "
    lines = [
        "New connection from 10.0.0.8:2 on port 8883.",
        "Client <unknown> disconnected, not authorised.",
    ]
    (one,) = reader.read(later + line for line in lines)
    assert one.addresses == ("10.0.0.8",)


def test_a_stamp_that_is_no_time():
    assert [
        one.time
        for one in LoginReader().read(
            ["2026-13-41T25:61:61: Client x disconnected, not authorised."]
        )
    ] == [0.0]


@pytest.fixture
def known(tmp_path):
    with Store(tmp_path / "fleet.db") as store:
        store.add_app(App("home", ("lock",), ("open",)))
        for name in ("D1", "D2"):
            store.add_device(Device(name, "lock", "UNIX", "sealed", policy.record()))
        with store.transaction():
            store.order_ending("D2", revoked=True, wipe=False, moment=1.0)
        yield store


@pytest.mark.parametrize(
    ("client", "devices", "words"),
    [
        ("d:lock:D1", ("D1",), "d:lock:D1 from 10.0.0.7: a wrong password: provisioned again"),
        ("d:lock:D2", ("D2",), "it is revoked, and still tries"),
        ("b:lock:D1", ("D1",), "b:lock:D1 from 10.0.0.7: a wrong password: provisioned again"),
        ("d:lamp:D1", (), "no device of this type and ID"),
        ("a:home", (), "a wrong password"),
        ("a:attic", (), "no such application"),
        ("t:home:1", (), "a token that is unknown"),
        ("admin\x1b[2J", (), "admin\N{REPLACEMENT CHARACTER}[2J from"),
    ],
)
def test_the_reason(known, client, devices, words):
    knock = logins.describe(known, RefusedLogin(5.0, "mqtt-refused", client, ("10.0.0.7",)))
    assert knock.devices == devices
    assert words in knock.text


def test_the_likely_one(known):
    def text(*absent: str) -> str:
        one = RefusedLogin(5.0, "mqtt-refused", "", ("10.0.0.7",), absent)
        return logins.describe(known, one).text

    assert text("d:lock:D1", "d:lock:D2").startswith(
        "likely d:lock:D2 from 10.0.0.7: it is revoked"
    )
    assert text("d:lock:D1", "a:home").startswith("likely d:lock:D1 or a:home from")
    assert text("a:1", "a:2", "a:3", "a:4").startswith(
        "a client from 10.0.0.7: a name that is none"
    )
    assert text().startswith("a client from")


def test_repeats_are_counted_and_a_flood_is_cut(tmp_path):
    made = new_fleet(tmp_path)
    clock = [1000.0]
    shown: list[FleetEvent] = []
    counted: list[FleetEvent] = []
    watch = LoginWatch(made, shown.append, counted.append, lambda: clock[0])
    one = RefusedLogin(5.0, "mqtt-refused", "d:lock:D9", ("10.0.0.7",))
    for _ in range(50):
        watch.refused(one)
    assert [event.kind for event in shown] == ["login"]
    assert len(counted) == 50
    assert {event.code for event in counted} == {LOGIN_REFUSED}
    clock[0] += login_watch.REPEAT_S
    watch.refused(one)
    assert shown[-1].text.endswith("49 times since it was last shown")
    for number in range(1000):
        watch.refused(RefusedLogin(5.0, "mqtt-refused", f"x{number}", ("10.0.0.7",)))
    assert len(shown) == 1 + login_watch._MOST_A_MINUTE
    clock[0] += 60
    watch.refused(RefusedLogin(5.0, "mqtt-refused", "y", ("10.0.0.7",)))
    assert "others were not shown" in shown[-1].text


def test_the_real_broker_names_its_refusals(tmp_path):
    """Live as it happens, and from the log later."""
    made = new_fleet(tmp_path)
    with Store(made.database) as store:
        setup.add_app(made, store, App("lights", ("relay",), ("set_relay",)))
    with registry.opened(made) as accounts:
        accounts.put(device_account("relay", "D1", device_password()))
    live: list[RefusedLogin] = []
    with broker.Broker(made) as running:
        running.on_refused_login = live.append
        client = Client(made, "d:relay:D1", "d:relay:D1", "wrong")
        assert client.answer == "Not authorized"
        assert client.until(lambda: live)
    assert (live[0].code, live[0].addresses) == ("mqtt-refused", ("127.0.0.1",))
    with Store(made.database) as store:
        (knock,) = logins.past(made, store, 0.0)
    assert (knock.code, knock.n) == ("mqtt-refused", len(live))


def test_the_names_that_are_kept_are_bounded(tmp_path, monkeypatch):
    """Strangers choose them: the one that was shown the longest ago gives way."""
    monkeypatch.setattr(login_watch, "_MOST_KEYS", 4)
    shown: list[FleetEvent] = []
    watch = LoginWatch(new_fleet(tmp_path), shown.append, lambda _: None, lambda: 1000.0)
    names = [f"x{number}" for number in range(10)]
    for name in (*names, names[-1], names[0]):
        watch.refused(RefusedLogin(5.0, "mqtt-refused", name, ("10.0.0.7",)))
    assert len(watch._known) == 4
    assert len(shown) == len(names) + 1  # the first one again, and not the last one
