"""The authority's own thread: a full disk, a store that can't be opened."""

import re
import sqlite3
from types import SimpleNamespace

import pytest
from engine_kit import PLAIN
from host_kit import NoLink, SteppedClock, new_fleet, receive, refused, settle, topic
from process_kit import PATIENCE_S
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.throttle import BURST
from warden_host.service import authority as module
from warden_host.service.authority import Authority
from warden_host.service.run import Service
from warden_host.store.store import Store

EVENT = b'{"event":"x","deviceId":"D1","body":{}}'


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "AppLink", NoLink)
    made = new_fleet(tmp_path)
    with Store(made.database) as store:
        store.add_device(PLAIN)
    return made


def test_a_full_disk_refuses_messages_with_bounded_notices(fleet, monkeypatch):
    news: list[FleetEvent] = []

    def full(self) -> None:
        pages = self.store._db.execute("PRAGMA page_count").fetchone()[0]
        self.store._db.execute(f"PRAGMA max_page_count = {pages}")

    clock = SteppedClock()
    where = topic("evt", "x", "json")
    big = EVENT.replace(b"{}", b'{"a":"' + b"y" * 12000 + b'"}')
    with Authority(fleet, news.append, clock) as made:
        made.ask(full)
        for _ in range(10):
            receive(made, where, big, count=40)
            settle(made)
        assert made.ask(Engine.online, 60) == {"D1": ["authority"]}
        notices = [each for each in news if each.code == "database-damaged"]
        lost = [re.search(r"full; (\d+) events are lost", each.text) for each in notices]
        assert sum(int(each[1]) for each in lost if each) == 400
        assert len(notices) <= BURST
        made.ask(lambda engine: engine.store._db.execute("PRAGMA max_page_count = 100000"))
        before = made.ask(lambda engine: len(engine.store.events("D1")))
        clock.now += 1
        receive(made, where, EVENT)
        settle(made)
        assert made.ask(lambda engine: len(engine.store.events("D1"))) == before + 1


def test_a_store_that_fails_by_a_bug_is_no_hang(fleet, monkeypatch):
    opened = []

    def failing(path):
        opened.append(path)
        if len(opened) > 1:
            raise sqlite3.OperationalError("secret")
        return Store(path)

    monkeypatch.setattr(module, "Store", failing)
    with refused("internal-error"), Authority(fleet, lambda _: None):
        pass


def test_an_engine_that_fails_at_the_start_is_no_hang(fleet, monkeypatch):
    def failing(*_):
        raise KeyError("secret")

    monkeypatch.setattr(module, "ClockGuard", failing)
    with refused("internal-error"), Authority(fleet, lambda _: None):
        pass


def test_an_exception_of_the_engines_own_thread_ends_the_service(fleet, monkeypatch):
    """What the engine and the inbox hold is in doubt then: it is told, and nothing is served."""

    def failing(*_):
        raise KeyError("secret")

    news: list[FleetEvent] = []
    with Authority(fleet, news.append) as made:
        service = Service(
            *(None, made, SimpleNamespace(check=lambda: None)),
            *(SimpleNamespace(check=lambda: None), None, None, news.append),
        )
        service.check()
        monkeypatch.setattr(made, "_due", failing)
        made._thread.join(PATIENCE_S)
        with refused("not-serving"):
            service.check()
        with refused("timed-out"):
            made.ask(Engine.online, 0.1)  # nothing uses the engine any more
    (event,) = (each for each in news if each.code == "internal-error")
    assert event.text.startswith("the authority ends: KeyError at warden_host.service.authority:")
    assert "secret" not in event.text
