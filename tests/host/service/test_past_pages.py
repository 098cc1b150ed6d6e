"""Pages of the log: each entry is on one of them, whatever comes meanwhile, by whatever clock."""

import json

import pytest
from console_kit import DEVICE, PLAIN, fill
from host_kit import refused
from warden_host.broker import logins
from warden_host.broker.logins import Knock
from warden_host.service import past
from warden_host.store.store import Store

EVENTS = 30


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """A fleet with entries of each kind, many of them of one moment, by a clock that jumps."""
    made = fill(tmp_path, events=EVENTS)
    with Store(made.database) as store:
        for number in range(7):
            store.add_event(PLAIN, "home", "door", json.dumps({"number": number}))
        with store.transaction():
            store.order_ending(DEVICE, True, True, 1000.0)
        store._do("UPDATE endings SET sent = 1000, wiped = 1000")
        store.write_events()
        store._do("UPDATE events SET time = 1000 + (id % 5)")
        store._do("UPDATE events SET time = 5000 WHERE id < 4")  # by a clock that was ahead
        for number in range(9):
            store.add_incident(PLAIN, "device", f"tampered-{number}", "x", 1, "")
        store._do("UPDATE incidents SET time = 1002")
    known = [
        Knock(1002.0, 1.0, "login-refused", ("d:lock:x",), (), (DEVICE,), f"{n}") for n in range(6)
    ]
    monkeypatch.setattr(logins, "past", lambda *_: iter(known))
    return made


def pages(fleet, most: int, device: str = "", meanwhile=lambda store: None) -> list:
    """Return all entries, page by page; meanwhile(store) is called between pages."""
    shown: list = []
    with Store(fleet.database) as store:
        begin = ""
        while True:
            found = past.page(fleet, store, device, begin, most)
            assert len(shown) < 1000, "the pages have no end"
            assert len(found.rows) <= most and len(found.following) <= past.MAX_PLACE
            shown += found.rows
            begin = found.following
            if not begin:
                return shown
            meanwhile(store)


@pytest.mark.parametrize("device", ["", DEVICE, PLAIN])
def test_every_entry_is_on_one_page(fleet, device):
    with Store(fleet.database) as store:
        whole = past.entries(fleet, store, device, most=1000)
    kinds = {"": past.USUAL, DEVICE: past.USUAL, PLAIN: ("event", "refused", "incident")}[device]
    assert {one.kind if hasattr(one, "kind") else past.LOGIN for one in whole} <= set(past.USUAL)
    assert len(whole) > len(kinds)
    for most in (1, 4, 7, 1000):
        shown = pages(fleet, most, device)
        assert len(shown) == len(set(shown)) == len(whole), most
        assert set(shown) == set(whole)


def test_the_newest_comes_first_where_the_clock_went_on(fleet):
    with Store(fleet.database) as store:
        store._do("UPDATE events SET time = 1000 + id / 3")
    times = [one.time for one in pages(fleet, 4)]
    assert times == sorted(times, reverse=True)


def test_what_comes_meanwhile_moves_no_page(fleet):
    def more(store: Store) -> None:
        store.add_event(PLAIN, "home", "new", "{}")
        store.write_events()
        store.add_incident(PLAIN, "device", "new", "x", 1, "")

    before = pages(fleet, 5)
    shown = pages(fleet, 5, meanwhile=more)
    assert [one for one in shown if one in before] == before
    assert [one for one in shown if one not in before] == []


@pytest.mark.parametrize(
    "begin",
    [
        *("x", "event", "event:1", "event:x:0", "event:1:x", "event:1:-1", "event:1:1000001"),
        *("event:nan:0", "event:inf:0", "event:1:0_event:1:0", "record:1:0", "event:1:0_", "_"),
    ],
)
def test_a_place_that_is_none(fleet, begin):
    with Store(fleet.database) as store, refused("control-malformed"):
        past.page(fleet, store, begin=begin)
