"""Open rooms at a real mosquitto: what anyone's account may do, and how its events are marked."""

import json
from dataclasses import replace
from typing import Any

import pytest
from api_kit import Caller, token_of
from broker_kit import Client
from engine_kit import SEALED
from host_kit import new_fleet, refused
from warden_host.addresses import is_loopback
from warden_host.cli import main
from warden_host.devices import app_changes, app_tokens, provision, rooms, setup
from warden_host.engine.request import Request
from warden_host.engine.throttle import Throttle
from warden_host.names import AUTHORITY, topic_base
from warden_host.protocol.access_token import Scope
from warden_host.service import open_rooms
from warden_host.service.console import WebAddress
from warden_host.service.run import serving
from warden_host.store import rooms as store_rooms
from warden_host.store.store import App, Pair, Store

MAST = "o:weather:mast"
OWN = "iot-2/type/weather/id/mast/evt/wind/fmt/json"
HOME = Pair("home", b"h" * 32, b"H" * 32, ("set_relay",))
D1 = "iot-2/type/relay/id/D1"


@pytest.fixture
def fleet(tmp_path):
    made = new_fleet(tmp_path)
    with Store(made.database) as store:
        setup.add_app(made, store, App("home", ("relay", "weather"), ("set_relay",)))
        store.add_device(replace(SEALED, pairs=(*SEALED.pairs, HOME)))
        assert rooms.add(made, store, "weather", ("mast", "roof")) == ("mast", "roof")
    return made


def test_an_open_device_reaches_its_room_alone(fleet):
    types = ("relay", "weather")
    with Store(fleet.database) as store:
        made, text = app_tokens.issue(fleet, store, "home", Scope(types, True, ()), 1)
    news: list[Any] = []
    with serving(fleet, news.append, web=WebAddress("127.0.0.1", 0)) as service:
        assert service.console is not None
        token = token_of(fleet, Scope(types, True, ("set_relay",), True))[1]
        caller = Caller(service.console.port, token)
        user = f"t:home:{made.id}"
        reader = Client(fleet, user, user, text)
        for type_ in types:
            assert reader.subscribe(topic_base(type_, "+") + "/evt/#")
        mast = Client(fleet, MAST, MAST, "open")
        assert mast.answer == "Success"
        with caller.stream() as stream:
            stream.next(kind="ready")
            lie = {"publisher": {"id": "D1", "proven": True}, "room": "x", "proof": "session"}
            mast.publish(OWN, data=json.dumps(lie).encode())
            event = stream.next(kind="event")
            assert (event["device"], event["name"], event["body"]) == ("mast", "wind", lie)
            publisher = {"kind": "open", "id": "mast", "type": "weather", "proven": False}
            assert event["publisher"] == publisher
            for topic in (
                *(f"{D1}/evt/temperature/fmt/{fmt}" for fmt in ("json", "cose")),
                f"{D1}/cmd/set_relay/fmt/json",
                OWN.replace("mast", "roof"),
                OWN.replace("/evt/", "/cmd/"),
                OWN.replace("json", "cose"),
                OWN + "/more",
                "iot-2/type/weather/id/mast/evt/fmt/json",
                "warden/app/home/ask",
                "$CONTROL/dynamic-security/v1",
            ):
                mast.publish(topic, data=b'{"no": 1}')
            for wanted in ("#", "+/#", "iot-2/#", "$SYS/#", f"{D1}/#", OWN, OWN[:-13] + "#"):
                assert mast.subscribe(wanted) is False
            mast.publish(OWN, data=b'{"last": 1}')
            assert reader.until(lambda: any(b"last" in data for _, data in reader.heard))
            assert [topic for topic, _ in reader.heard] == [OWN, OWN]
            assert mast.heard == []
            assert stream.next(kind="event")["body"] == {"last": 1}  # and nothing in between
        # Another's name is of no use, and another's client ID is the user name's all the same.
        assert Client(fleet, "d:relay:D1", "d:relay:D1", "open").answer == "Not authorized"
        second = Client(fleet, "d:relay:D1", MAST, "open")
        second.publish(f"{D1}/evt/temperature/fmt/cose")
        second.publish(OWN, data=b'{"second": 1}')
        assert reader.until(lambda: any(b"second" in data for _, data in reader.heard))
        assert {topic for topic, _ in reader.heard} == {OWN}
        # Nothing commands it, and it is no device of the fleet's.
        rows = {one["device"]: one["state"] for one in caller.get("/devices")[1]["devices"]}
        assert rows["mast"] == rows["roof"] == "open"
        assert caller.command("mast", "set_relay")[1]["code"] == "device-unknown"
        with refused("device-unknown"):
            service.authority.command(Request("mast", "set_relay", {}))
        with Store(fleet.database) as store:
            assert rooms.remove(fleet, store, "weather", ("mast",)) == ("roof",)
        assert second.until(lambda: not second.client.is_connected())
    assert not [one for one in news if one.kind == "event"]


def test_a_last_will_stays_in_the_room(fleet):
    with serving(fleet):
        with Store(fleet.database) as store:
            made, text = app_tokens.issue(
                fleet, store, "home", Scope(("relay", "weather"), True, ()), 1
            )
        user = f"t:home:{made.id}"
        reader = Client(fleet, user, user, text)
        for type_ in ("relay", "weather"):
            assert reader.subscribe(topic_base(type_, "+") + "/evt/#")
        dying = Client(fleet, MAST, MAST, "open")
        dying.client.disconnect()
        dying.client.will_set(f"{D1}/evt/offline/fmt/json", b"{}")
        dying.answer = ""
        dying.client.connect("127.0.0.1", fleet.settings.broker.port)
        dying.until(lambda: dying.answer)
        dying.client.socket().close()
        mast = Client(fleet, MAST, MAST, "open")
        mast.publish(OWN, data=b'{"last": 1}')
        assert reader.until(lambda: reader.heard)
        assert [topic for topic, _ in reader.heard] == [OWN]


@pytest.mark.parametrize(
    ("topic", "data", "retain", "code"),
    [
        (OWN, b"x", False, "bad-body"),
        (OWN, b"[1]", False, "bad-body"),
        (OWN, b'{"a":' * 9 + b"1" + b"}" * 9, False, "bad-body"),
        (OWN, b'{"a":"' + b"x" * 1100 + b'"}', False, "mqtt-too-large"),
        (OWN, b"{}", True, "retained"),
        (OWN.replace("wind", "hello"), b"{}", False, "bad-topic"),
        (OWN.replace("wind", "device_otp_response"), b"{}", False, "bad-topic"),
        (OWN.replace("json", "cose"), b"{}", False, "bad-topic"),
        (OWN.replace("/evt/", "/cmd/"), b"{}", False, "bad-topic"),
    ],
)
def test_what_is_refused_of_an_open_device(topic, data, retain, code):
    news: list[Any] = []
    sink = open_rooms.before(pytest.fail, lambda _: "weather", news.append)
    sink("home", topic.encode(), memoryview(data), retain)
    assert news == []  # the authority's own link has it, too
    sink(AUTHORITY, topic.encode(), memoryview(data), retain)
    assert [(one.kind, one.code) for one in news] == [("notice", code)]


def test_an_open_device_has_a_rate_and_others_their_way(monkeypatch):
    looks: list[float] = []

    class Counting(Throttle):
        def due(self, now: float) -> list[tuple[str, int]]:
            looks.append(now)
            return super().due(now)

    monkeypatch.setattr(open_rooms, "Throttle", Counting)
    news: list[Any] = []
    passed: list[Any] = []
    now = [0.0]
    sink = open_rooms.before(
        lambda *each: passed.append(each),
        lambda topic: "weather" if b"/weather/" in topic else "",
        news.append,
        lambda: now[0],
    )
    for _ in range(50):
        sink(AUTHORITY, OWN.encode(), memoryview(b"{}"), False)
    assert sum(one.kind == "open" for one in news) == 20
    assert looks == [0.0]  # at all devices, and not for each message
    now[0] = 1.0
    sink(AUTHORITY, OWN.encode(), memoryview(b"{}"), False)
    assert [one.code for one in news if one.kind == "notice"][-1] == "flooded"
    assert news[-1].kind == "open" and sum(one.kind == "open" for one in news) == 21
    sink(AUTHORITY, f"{D1}/evt/x/fmt/cose".encode(), memoryview(b"x"), False)
    assert len(passed) == 1


def test_names_that_are_taken(fleet, capsys, monkeypatch):
    with Store(fleet.database) as store:
        for room, device in (("relay", "mast2"), ("attic", "D1"), ("attic", "mast")):
            with refused("bad-argument"):
                rooms.add(fleet, store, room, (device,))
        assert app_changes.unused_types(store, ("relay", "weather", "x")) == ["x"]
        with refused("bad-name"):
            rooms.add(fleet, store, "no/room", ("x",))
        monkeypatch.setattr(rooms, "MOST_DEVICES", 2)
        with refused("bad-argument"):
            rooms.add(fleet, store, "weather", ("third",))
        with refused("bad-argument"):
            rooms.remove(fleet, store, "weather", ("nobody",))
        for order in (("roof", "relay"), ("D7", "weather")):
            with refused("bad-argument"):
                provision.provision(fleet, store, provision.Order(*order))
    assert store_rooms.MOST_DEVICES == 250
    tool = ["--fleet", str(fleet.root), "room"]
    assert main.run([*tool, "add", "attic", "lamp", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["devices"] == ["lamp"]
    assert main.run([*tool, "add", "attic", "fan"]) == 0
    assert "o:attic:DEVICE" in capsys.readouterr().out
    assert main.run([*tool, "remove", "attic", "lamp"]) == 0
    assert main.run([*tool, "list", "--json"]) == 0
    assert '"attic"' in capsys.readouterr().out
    assert main.run([*tool, "remove", "attic"]) == 0
    assert main.run([*tool, "list"]) == 0


def test_a_room_that_is_made_while_a_device_is_provisioned(fleet):
    def deliver(*_: object) -> None:
        with Store(fleet.database) as store:
            rooms.add(fleet, store, "attic", ("D8",))

    with Store(fleet.database) as store:
        with refused("bad-argument"):
            provision.provision(fleet, store, provision.Order("D8", "relay"), deliver)
        assert store.find("D8") is None


def test_an_open_log_in_makes_no_address_known(monkeypatch):
    from warden_host.broker.backend import Attempt, AttemptKind
    from warden_host.service.ban_watch import BanWatch

    noted: list[str] = []
    watch = object.__new__(BanWatch)
    watch._store = None
    watch.known = type("Known", (), {"note": lambda self, *each: noted.append(each[1])})()
    watch.enforcement = type("E", (), {"status": type("S", (), {"enforced": True})()})()
    for client in (MAST, "d:relay:D1"):
        watch._logged_in(Attempt(AttemptKind.LOGGED_IN, 0.0, "192.0.2.1", client, 1))
    assert noted == ["d:relay:D1"] and not is_loopback("192.0.2.1")
