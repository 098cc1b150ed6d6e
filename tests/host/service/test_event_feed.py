"""The feed of events: each reader gets each event once, or is told that some are lost."""

import itertools
import json
from types import SimpleNamespace

import pytest
from warden_host.engine.events import FleetEvent
from warden_host.service import event_feed
from warden_host.service.control import Caller
from warden_host.service.event_feed import EventFeed


@pytest.fixture
def marks():
    return itertools.count(1000, 10)


@pytest.fixture
def feed(marks, monkeypatch):
    monkeypatch.setattr(event_feed, "_GATHER_S", 0.0)
    made = EventFeed(lambda: next(marks))
    made.retains = True
    return made


def reader(feed, **how):
    caller = Caller()
    feed.add(caller, **how)
    assert caller.reader is not None
    return caller.reader


def announce(feed, *numbers, device="D1"):
    for number in numbers:
        feed.announce(FleetEvent("event", device, id=number))


def batch(of):
    data = of.read(0)
    return json.loads(data) if data else None


def ids(line):
    return [event["id"] for event in line["events"]]


def test_a_page_gets_what_came_after_it_was_made(feed, marks):
    announce(feed, 1, 2)
    made = next(marks)
    announce(feed, 3, 4)
    page = reader(feed, after=made, batched=True)
    announce(feed, 5)
    first = batch(page)
    assert (first["after"], first["lost"], ids(first)) == (made, 0, [3, 4, 5])
    announce(feed, 6)
    second = batch(page)
    assert (second["after"], ids(second)) == (first["mark"], [6])
    # The tab is hidden for a while, and comes back.
    announce(feed, 7, 8)
    assert ids(batch(reader(feed, after=second["mark"], batched=True))) == [7, 8]


def test_marks_rise_also_where_the_clock_stands(monkeypatch):
    feed = EventFeed(lambda: 7)
    feed.retains = True
    page = reader(feed, after=7, batched=True)
    announce(feed, 1, 2)
    first = batch(page)
    assert ids(first) == [1, 2] and first["mark"] == 9
    announce(feed, 3)
    assert ids(batch(reader(feed, after=8, batched=True))) == [2, 3]


def test_a_page_hears_that_all_is_well(feed, monkeypatch):
    now = [50.0]
    monkeypatch.setattr(event_feed.time, "monotonic", lambda: now[0])
    page = reader(feed, batched=True)
    first = batch(page)
    assert ids(first) == [] and first["after"] == first["mark"]  # at once: the page is live
    assert batch(page) is None
    now[0] += event_feed._BEAT_S
    assert ids(batch(page)) == []
    assert batch(page) is None


def test_a_device_alone(feed):
    page = reader(feed, device="D2", batched=True)
    batch(page)
    announce(feed, 1, 2)
    assert batch(page) is None
    announce(feed, 3, device="D2")
    announce(feed, 4)
    found = batch(page)
    assert ids(found) == [3]
    # What is not for the page counts as heard: it is not lost when it is not kept any more.
    announce(feed, *range(5, 5 + event_feed.MOST_EVENTS - 1))
    assert batch(reader(feed, after=found["mark"], device="D2", batched=True))["lost"] == 0


@pytest.mark.parametrize("bound", ["events", "bytes"])
def test_what_is_not_kept_is_said(feed, marks, bound, monkeypatch):
    text = "x" * 100
    most = 5 if bound == "events" else 1000
    monkeypatch.setattr(event_feed, "MOST_EVENTS", most)
    monkeypatch.setattr(event_feed, "MOST_BYTES", 10**6 if bound == "events" else 900)
    made = next(marks)
    slow, lines = reader(feed, batched=True), reader(feed)
    for number in range(1, 21):
        feed.announce(FleetEvent("event", "D1", id=number, text=text))
    kept = len(feed._entries)
    assert 3 <= kept <= 5
    assert batch(reader(feed, after=made, batched=True))["lost"] > 0
    found = batch(slow)
    assert (found["lost"], ids(found)) == (20 - kept, list(range(21 - kept, 21)))
    first, *others = map(json.loads, lines.read(0).splitlines())
    assert first["text"].startswith(f"{20 - kept} missed") and len(others) == kept
    announce(feed, 21)
    assert batch(slow)["lost"] == 0


def test_a_page_of_another_time_is_told(feed, marks):
    early = next(marks) - 10_000  # `warden serve` began later
    assert batch(reader(feed, after=early, batched=True))["lost"] == 1
    assert batch(reader(feed, after=next(marks) + 10_000, batched=True))["lost"] == 1
    assert batch(reader(feed, after=next(marks), batched=True))["lost"] == 0


def test_without_pages_nothing_is_kept_or_encoded(feed, marks, monkeypatch):
    feed.retains = False
    made = next(marks)
    monkeypatch.setattr(event_feed.jsontext, "dump", None)
    announce(feed, 1)
    assert not feed._entries
    monkeypatch.undo()
    assert batch(reader(feed, after=made, batched=True))["lost"] == 1


def test_an_event_is_encoded_once(feed, monkeypatch):
    pages = [reader(feed, batched=True) for _ in range(5)] + [reader(feed)]
    dumped, dump = [], event_feed.jsontext.dump
    monkeypatch.setattr(event_feed.jsontext, "dump", lambda v: dumped.append(v) or dump(v))
    announce(feed, 1)
    assert all(page.read(0) for page in pages)
    assert len(dumped) == 1


def test_a_write_is_bounded(feed, monkeypatch):
    monkeypatch.setattr(event_feed, "_WRITE", 300)
    page = reader(feed, batched=True)
    for number in range(1, 6):
        feed.announce(FleetEvent("event", "D1", id=number, text="x" * 150))
    feed.announce(FleetEvent("event", "D1", id=6, text="x" * 1000))
    found = [batch(page) for _ in range(6)]
    assert [ids(one) for one in found] == [[1], [2], [3], [4], [5], [6]]
    assert all(a["mark"] == b["after"] for a, b in itertools.pairwise(found))


def test_what_comes_soon_goes_together(monkeypatch):
    slept = []
    feed = EventFeed()
    page = reader(feed, batched=True)

    def sleep(seconds):
        slept.append(seconds)
        announce(feed, 2, 3)

    # A clock that stands: no load makes the two writes come further apart.
    clock = SimpleNamespace(sleep=sleep, monotonic=lambda: 50.0)
    monkeypatch.setattr(event_feed, "time", clock)
    batch(page)
    announce(feed, 1)
    assert ids(batch(page)) == [1, 2, 3]
    assert len(slept) == 1 and 0 < slept[0] <= event_feed._GATHER_S
