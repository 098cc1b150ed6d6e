"""What the authority sends an exported application of its devices' keys, without a broker."""

from dataclasses import replace

import pytest
from engine_kit import SEALED, Stage
from host_kit import DEVICE
from warden_client.protocol import key_lists
from warden_host.errors import HostError
from warden_host.service.key_lists import Asks, KeyLists
from warden_host.store.store import App, Pair

SECRET = b"s" * 32


class Listener(Stage):
    """An engine that sends lists to the exported application `lights`."""

    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.store.add_app(App("lights", ("relay",), ("set_relay",)))
        self.store.set_exported("lights", 1.0)
        with self.store.transaction():
            self.number = self.store.renew_list_secret("lights", SECRET, 100.0).number
        self.pages: list[key_lists.Page] = []
        self.other: list[bytes] = []
        self.asks = Asks()
        self.sink = self.asks.before(lambda _app, topic, *_: self.other.append(topic))
        KeyLists(self.engine, self.asks, self._open)

    def _open(self, where: str, data: bytes) -> None:
        assert where == "warden/app/lights/keys"
        assert len(data) + len(where) + 16 <= self.engine.packet_limit
        self.pages.append(key_lists.open_page("lights", SECRET, data)[1])

    def ask(self, number: int, secret: bytes = SECRET, retain: bool = False) -> None:
        data = key_lists.seal_ask("lights", secret, number)
        self.sink("authority", b"warden/app/lights/ask", memoryview(data), retain)

    def look(self, seconds: float = 0.3) -> list[key_lists.Page]:
        self.pages.clear()
        self.pass_time(seconds)
        return list(self.pages)

    def names(self, page: key_lists.Page) -> list[str]:
        return [one if isinstance(one, str) else one["device"] for one in page.devices]


@pytest.fixture
def listener(tmp_path):
    made = Listener(tmp_path)
    yield made
    made.store.close()


def changes(store):
    """Each change of fleet.db after which the application needs the device's entry anew."""
    pair = "WHERE device = 'D1' AND appid = 'lights'"
    yield f"UPDATE pairs SET k = zeroblob(32) {pair}"
    yield f"UPDATE pairs SET commands = '[]' {pair}"
    yield "UPDATE devices SET policy = policy WHERE device = 'D1'"
    yield "INSERT INTO policy_changes VALUES ('D1', x'00')"
    yield "DELETE FROM policy_changes"
    yield "INSERT INTO endings VALUES ('D1', 0, 1, 1.0, NULL, NULL)"
    yield "UPDATE endings SET revoked = 1"
    yield "DELETE FROM endings"
    yield "INSERT INTO rotations VALUES ('D1', 1, x'a0', NULL)"
    yield "INSERT INTO settings VALUES ('waits for backup:D1', x'31')"
    yield "INSERT OR REPLACE INTO settings VALUES ('backups', x'5b5d')"
    yield "DELETE FROM settings WHERE name = 'waits for backup:D1'"
    yield "UPDATE rotations SET body = NULL"
    yield f"DELETE FROM pairs {pair}"


def test_each_change_of_an_entry_is_noted_and_no_other(listener):
    store = listener.store
    for statement in changes(store):
        store._do(statement)
        assert store.key_changes("lights", 9) == ["D1"], statement
        with store.transaction():
            store.drop_key_change("lights", "D1")
    store._do("UPDATE apps SET types = types WHERE appid = 'lights'")
    assert store.key_changes("lights", 9) == [""]
    with store.transaction():
        store.drop_key_changes("lights")
    store.set_last_seen("D1", 5.0)
    store._do("UPDATE pairs SET boot = 3, connect = 4, event_number = 5")
    store._do("INSERT INTO settings VALUES ('another', x'31')")
    store._do("DELETE FROM pairs WHERE appid = 'authority'")
    assert store.apps_with_changes() == []


def test_a_change_is_sent_at_once_as_a_list_that_continues_the_last(listener):
    with listener.store.transaction():
        listener.store.add_device(replace(SEALED, device="D2"))
    (page,) = listener.look()
    assert (page.previous, page.position, page.last) == (listener.number, 0, True)
    assert page.number >= listener.now.unix - 1  # fleet.db may come from a backup
    assert page.devices[0]["keys"] == [SEALED.pairs[1].k]
    assert listener.names(page) == ["D2"]
    with listener.store.transaction():
        listener.store.set_app("lights", ("relay", "lamp"), ("set_relay",))
        listener.store._do("INSERT INTO endings VALUES ('D2', 1, 0, 1.0, NULL, NULL)")
        listener.store.remove_device(DEVICE)
    (after,) = listener.look()
    assert (after.previous, after.number) == (page.number, page.number + 1)
    assert after.devices == [DEVICE, "D2"]  # both are gone
    assert after.scopes == (("relay", "lamp"), ("set_relay",))
    assert listener.look() == []


def test_who_asks_gets_what_is_missing(listener):
    listener.ask(listener.number)
    (page,) = listener.look()  # nothing is missing: this says so
    assert (page.previous, page.devices, page.scopes) == (listener.number, [], None)
    listener.ask(listener.number)
    assert listener.look() == []  # so soon
    (page,) = listener.look(6.0)
    assert page.previous is None
    assert (listener.names(page), page.last) == ([DEVICE], True)
    assert page.scopes == (("relay",), ("set_relay",))
    assert listener.store.list_secret("lights").number == page.number


def test_many_devices_come_in_pages_and_no_change_is_lost_meanwhile(listener):
    with listener.store.transaction():
        for number in range(300):
            listener.store.add_device(replace(SEALED, device=f"L{number}"))
        listener.store.drop_key_changes("lights")
    listener.engine.packet_limit = 2048
    listener.ask(1)
    pages = listener.look()
    assert pages
    assert not pages[-1].last
    with listener.store.transaction():
        listener.store.add_device(replace(SEALED, device="NEW"))
    for _ in range(20):
        pages += listener.look()
    (change,) = [page for page in pages if page.previous is not None]
    whole = [page for page in pages if page.previous is None]
    assert pages[-1] is change
    assert listener.names(change) == ["NEW"]
    assert change.previous == whole[0].number
    assert [page.position for page in whole] == list(range(len(whole)))
    assert [page.last for page in whole] == [False] * (len(whole) - 1) + [True]
    names = [name for page in whole for name in listener.names(page)]
    assert sorted(names) == sorted([DEVICE, *(f"L{number}" for number in range(300))])


@pytest.mark.parametrize("packet", [2048, 16384])
def test_the_largest_entries_and_the_most_of_them_fit(listener, packet):
    many = tuple(f"{number:02}" + "c" * 30 for number in range(32))
    with listener.store.transaction():
        for number in range(70):
            pair = Pair("lights", b"k" * 32, b"u" * 32, many if number % 2 else ("x",))
            device = f"{number:02}" + "d" * 30
            listener.store.add_device(replace(SEALED, device=device, pairs=(pair,)))
    listener.engine.packet_limit = packet
    pages = [page for _ in range(20) for page in listener.look()]
    assert len({name for page in pages for name in listener.names(page)}) == 70
    assert not [news for news in listener.news if news.code]


def test_asks_that_are_refused(listener):
    listener.sink("authority", b"iot-2/type/a/id/b/evt/x/fmt/cose", memoryview(b""), False)
    assert listener.other == [b"iot-2/type/a/id/b/evt/x/fmt/cose"]
    listener.ask(1, retain=True)
    listener.sink("authority", b"warden/app/lights/ask", memoryview(bytes(500)), False)
    assert listener.asks.waiting() == []
    listener.ask(1, secret=b"old" + bytes(29))
    listener.sink("authority", b"warden/app/attic/ask", memoryview(b"x"), False)
    assert listener.look() == []
    assert listener.codes() == ["wrong-application"]
    for number in range(100):
        topic = f"warden/app/a{number}/ask".encode()
        listener.sink("authority", topic, memoryview(b"x"), False)
    assert len(listener.asks.waiting()) == 64


def test_an_entry_above_a_packet_costs_its_list_alone(listener):
    """It is told, and tried again after a pause, not with each look."""
    whole = listener.engine.packet_limit
    listener.engine.packet_limit = 256
    with listener.store.transaction():
        listener.store.add_device(replace(SEALED, device="D2"))
    assert listener.look() == listener.look() == []
    assert listener.codes() == ["mqtt-too-large"]
    listener.engine.packet_limit = whole
    (page,) = listener.look(6.0)
    assert listener.names(page) == ["D2"]
    listener.engine.packet_limit = 256
    listener.ask(1)
    (page,) = listener.look()
    assert (page.devices, page.last) == ([], False)  # with the scopes alone
    assert listener.look() == []  # the list of all devices is dropped, and asked for again
    assert listener.codes() == ["mqtt-too-large"] * 2
    listener.engine.packet_limit = whole
    listener.ask(1)
    (page,) = listener.look(6.0)
    assert (listener.names(page), page.previous) == ([DEVICE, "D2"], None)


def test_scopes_above_a_packet_are_left_out_and_told(listener):
    types = tuple(f"{number:02}" + "t" * 30 for number in range(32))
    with listener.store.transaction():
        listener.store.set_app("lights", types, ("set_relay",))
        listener.store.add_device(replace(SEALED, device="D2"))
    listener.engine.packet_limit = 1024
    (page,) = listener.look()
    assert (listener.names(page), page.scopes) == (["D2"], None)
    assert listener.codes() == ["mqtt-too-large"]


def test_a_device_that_can_not_be_read_is_not_told_to_be_gone(listener, monkeypatch):
    def fails(*_):
        raise HostError("database-damaged", "no")

    with listener.store.transaction():
        listener.store.add_device(replace(SEALED, device="D2"))
    with monkeypatch.context() as patched:
        patched.setattr("warden_host.devices.app_export.entry", fails)
        assert listener.look() == []
    assert listener.codes() == ["database-damaged"]
    assert listener.names(listener.look(6.0)[0]) == ["D2"]  # what is noted of it is still there


def test_an_application_whose_secret_went_meanwhile_gets_no_list(listener):
    """Another process may take it away between the look at what changed and the transaction."""
    lists = KeyLists(listener.engine, listener.asks, listener._open)
    listener.store._do("DELETE FROM app_lists WHERE appid = 'lights'")
    lists._send_changes("lights")
    assert (listener.pages, listener.codes()) == ([], [])
