"""Whom an event concerns: watchers by kind, jobs by the device that they wait for."""

from warden_host.engine.events import KINDS, FleetEvent
from warden_host.engine.jobs import Jobs, Wait
from warden_host.engine.watchers import Watchers


def waiting(wait: Wait):
    """Return a job that waits once, and ends with what it got."""

    def job():
        return {"got": (yield wait)}

    return job()


def test_a_watcher_is_called_for_its_kinds_in_their_order():
    watchers, called = Watchers(), []
    watchers.add(lambda one: called.append(("all", one.kind)))
    watchers.add(lambda one: called.append(("some", one.kind)), "session", "reply")
    for kind in KINDS:
        for watcher in watchers.of(kind):
            watcher(FleetEvent(kind))
    assert [kind for who, kind in called if who == "all"] == list(KINDS)
    assert [kind for who, kind in called if who == "some"] == ["session", "reply"]
    assert called.index(("all", "reply")) < called.index(("some", "reply"))
    watchers.clear()
    assert not any(watchers.of(kind) for kind in KINDS)


def test_an_event_is_offered_to_those_who_wait_for_its_device():
    jobs, offered, results = Jobs(), [], []

    def matches(name: str):
        return lambda one: offered.append(name) or one.name == "go"

    for name, device in (("of D1", "D1"), ("of D2", "D2"), ("of any", "")):
        jobs.start(waiting(Wait(matches(name), 9.0, device)), results.append)
    jobs.dispatch(FleetEvent("event", "D1"))
    assert sorted(offered) == ["of D1", "of any"]
    event = FleetEvent("event", "D2", name="go")
    jobs.dispatch(event)
    assert results == [{"got": event}, {"got": event}]  # of any, of D2


def test_a_job_without_a_match_waits_for_its_deadline():
    jobs, results = Jobs(), []
    jobs.start(waiting(Wait(None, 5.0)), results.append)
    jobs.dispatch(FleetEvent("event", "D1"))
    jobs.dispatch(FleetEvent("notice"))
    jobs.tick(4.9)
    assert results == []
    jobs.tick(5.0)
    assert results == [{"got": None}]
    jobs.tick(6.0)
    assert len(results) == 1


def test_a_stop_ends_jobs_of_every_kind():
    jobs, results = Jobs(), []
    for wait in (Wait(None, 5.0), Wait(lambda _: True, 5.0), Wait(lambda _: True, 5.0, "D1")):
        jobs.start(waiting(wait), results.append)
    jobs.abandon()
    assert [one.code for one in results] == ["not-serving"] * 3
