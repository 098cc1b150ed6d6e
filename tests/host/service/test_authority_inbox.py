"""Order, drops and reports of the authority under a flood, by a virtual clock."""

import queue
import threading
import time

import pytest
from engine_kit import PLAIN
from host_kit import NoLink, SteppedClock, new_fleet, receive, refused, settle, topic
from process_kit import PATIENCE_S
from warden_host.devices import revocation
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.jobs import Wait
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.service import authority as module
from warden_host.service.authority import Authority
from warden_host.service.fair_inbox import BURST, MAX_TASKS, RATE, WAITING
from warden_host.store.store import App, Device, Store


class World:
    """An authority without a broker, whose engine stands still while it is held."""

    def __init__(self, fleet, patch) -> None:
        self.fleet = fleet
        self.clock = SteppedClock()
        self.news: list[FleetEvent] = []
        self.handled: list[tuple[str, str]] = []  # (application, what is between evt/ and /fmt)
        self.authority = Authority(fleet, self.news.append, self.clock)
        self._go = threading.Event()

        def on_message(_engine, appid, text, _data, _retain) -> None:
            self.handled.append((appid, text.split("/id/")[-1].replace("/evt/", " ")))

        patch.setattr(Engine, "on_message", on_message)

    def hold(self) -> None:
        reached, go = threading.Event(), threading.Event()
        self._go = go

        def block(_engine) -> None:
            reached.set()
            go.wait(PATIENCE_S)

        self.authority.do(block)
        assert reached.wait(PATIENCE_S)

    def release(self) -> None:
        self._go.set()

    def receive(
        self, device: str, event: str = "x", count: int = 1, appid: str = "authority"
    ) -> None:
        receive(self.authority, topic("evt", event, "json", device), b"{}", appid, count)

    def settle(self) -> None:
        settle(self.authority, self.clock)

    def devices(self) -> list[str]:
        return [what.split()[0] for _, what in self.handled]


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "AppLink", NoLink)
    fleet = new_fleet(tmp_path)
    with Store(fleet.database) as store:
        for name in ("D1", "D2", "D3"):
            store.add_device(Device(name, "relay", "UNIX", "plain", PLAIN.policy))
    made = World(fleet, monkeypatch)
    with made.authority:
        yield made
        made.release()


def test_a_flood_is_served_in_turn_with_the_others(world):
    world.hold()
    world.receive("D1", count=5000)
    world.receive("D2", count=3)
    world.receive("D3", count=1)
    world.release()
    world.settle()
    assert world.devices()[:7] == ["D1", "D2", "D3", "D1", "D2", "D1", "D2"]
    assert world.devices().count("D1") == WAITING


def test_drops_are_announced_once_per_device(world):
    world.hold()
    world.receive("D1", count=WAITING + 300)
    world.receive("D1", count=WAITING + 40, appid="lights")
    world.receive("D2", count=WAITING + 7)
    world.release()
    world.settle()
    world.clock.now += 1
    world.authority.ask(world.authority.announce_refused)
    told = {each.device: each.text for each in world.news if each.code == "flooded"}
    assert told == {
        "D1": "340 messages dropped: it sends more than its quota",
        "D2": "7 messages dropped: it sends more than its quota",
    }
    rows: list[list[tuple[str, ...]]] = []
    world.authority.ask(
        lambda engine: rows.extend(
            [(one.source, one.code, one.at, str(one.n)) for one in engine.store.incidents(name)]
            for name in ("D1", "D2", "D3")
        )
    )
    assert rows == [[("host", "flooded", "", "340")], [("host", "flooded", "", "7")], []]
    world.clock.now += 1
    world.authority.ask(world.authority.announce_refused)
    assert len([each for each in world.news if each.code == "flooded"]) == 2


def test_drops_are_announced_of_a_device_whose_other_events_are_not_shown(world):
    def announce(engine: Engine) -> None:
        for _ in range(1000):
            engine.notify(FleetEvent("event", "D1"))
        world.authority.announce_refused(engine)

    world.hold()
    world.receive("D1", count=WAITING + 1)
    world.release()
    world.settle()
    world.clock.now += 1
    world.authority.ask(announce)
    assert [each.device for each in world.news if each.code == "flooded"] == ["D1"]


def test_drops_are_announced_once_a_second(world):
    tell = world.authority.announce_refused
    for _ in range(10):
        world.hold()
        world.receive("D1", count=WAITING + 1)
        world.release()
        world.authority.ask(tell)
        world.settle()
    moved = world.clock.now - 1000.0
    told = [each for each in world.news if each.code == "flooded"]
    assert len(told) <= 1 + moved


def test_tasks_precede_a_flood(world):
    world.hold()
    world.receive("D1", count=1000)
    seen: list[int] = []
    world.authority.do(lambda _: seen.append(len(world.handled)))
    world.authority.submit(
        Request("D9", "set_relay", {}), lambda _: seen.append(len(world.handled))
    )
    world.release()
    world.settle()
    assert seen == [0, 0]


def test_names_outside_the_fleet_share_one_quota(world):
    world.hold()
    for number in range(1000):
        world.receive(f"stranger{number}")
        receive(world.authority, f"elsewhere/{number}", b"")
        receive(world.authority, "/" * number, b"")
        receive(world.authority, "iot-2/type/relay/id/D2/" + "x" * 300, b"")
    world.receive("D2")
    world.release()
    world.settle()
    assert len(world.handled) == WAITING + 1
    assert ("authority", "D2 x/fmt/json") in world.handled[:2]


def test_a_topic_that_is_no_text_costs_one_message(world):
    world.authority.receive(
        "authority", b"iot-2/type/relay/id/D1/evt/\xff/fmt/json", memoryview(b""), False
    )
    world.settle()
    assert world.handled == [("authority", "D1 \ufffd/fmt/json")]


def test_hellos_have_a_rate_of_their_own(world):
    world.hold()
    world.receive("D1", "hello", count=100)
    world.receive("D1", "x", count=1)
    world.release()
    ask = world.authority.ask
    while ask(lambda _: len(world.handled)) < BURST / 20:
        pass
    for _ in range(50):  # no clock moves: no further one is served
        ask(lambda _: None)
    assert len(world.handled) == BURST / 20
    world.clock.now += 1
    while ask(lambda _: len(world.handled)) < (BURST + RATE) / 20:
        pass
    for _ in range(50):
        ask(lambda _: None)
    assert len(world.handled) == (BURST + RATE) / 20


def test_waiting_messages_of_a_revoked_device_are_dropped(world):
    with Store(world.fleet.database) as store:
        revocation.order_ending(store, "D1", revoke=True, wipe=False)
    world.hold()
    world.receive("D1", count=1000)
    world.receive("D1", count=1000, appid="lights")
    world.receive("D2", count=2)
    results: list = []
    world.authority.end_device("D1", lambda result: results.append((result, len(world.handled))))
    world.release()
    world.settle()
    assert results == [({"ok": True, "wiped": False}, 0)]
    assert world.devices() == ["D2", "D2"]


def test_waiting_messages_of_a_device_to_wipe_are_kept(world):
    """It is still a member: its earlier messages are handled."""
    with Store(world.fleet.database) as store:
        store.order_ending("D1", False, True, 1.0)
    world.hold()
    world.receive("D1", count=3)
    world.authority.end_device("D1", lambda _: None)
    world.release()
    world.settle()
    assert world.devices() == ["D1"] * 3


def test_what_is_cut_off_for_a_flood_is_dropped_at_each_link(world):
    """Only the authority's own link counts: each message of a device comes by all of them."""
    counted = []
    world.authority.floods.admits = lambda device, size: counted.append(device) or device != "D2"
    for appid in ("authority", "home"):
        world.receive("D1", appid=appid)
    world.receive("D2")
    world.authority.floods.dropped.add("D3")
    for appid in ("authority", "home"):
        world.receive("D3", appid=appid)
    world.settle()
    assert world.handled == [(appid, "D1 x/fmt/json") for appid in ("authority", "home")]
    assert counted == ["D1", "D2"]


def test_errors_of_a_question_and_of_an_end_reach_who_asked(world, monkeypatch):
    """Also those that nobody foresaw; the engine's thread goes on."""

    def failing(error):
        def fails(*_):
            raise error

        return fails

    for error, code in (
        (HostError("device-unknown", "no"), "device-unknown"),
        (KeyError("a bug"), "internal-error"),
    ):
        with refused(code):
            world.authority.ask(failing(error))
    done: queue.SimpleQueue = queue.SimpleQueue()
    error = HostError("database-damaged", "no")
    monkeypatch.setattr(world.authority.pending_wipes, "apply", failing(error))
    world.authority.end_device("D1", done.put)
    assert done.get(timeout=PATIENCE_S) is error
    monkeypatch.setattr(world.authority.floods, "handle", failing(error))
    world.receive("D1")
    world.settle()
    assert world.authority.alive()


def test_messages_before_a_loss_are_handled_before_it(world, monkeypatch):
    order: list[tuple[str, int]] = []
    for name in ("on_link_lost", "on_link_restored"):
        monkeypatch.setattr(
            Engine, name, lambda _, appid, name=name: order.append((name, len(world.handled)))
        )
    world.hold()
    world.receive("D1", count=WAITING)
    world.receive("D2", count=2)
    world.receive("D1", count=4, appid="lights")
    world.authority.on_link_change("authority", False)
    world.authority.on_link_change("authority", True)
    world.release()
    world.settle()
    assert order == [("on_link_lost", WAITING + 2), ("on_link_restored", WAITING + 2)]
    assert [appid for appid, _ in world.handled[-4:]] == ["lights"] * 4


def test_a_lone_reply_before_a_loss_is_handled_before_it(world, monkeypatch):
    order: list[int] = []
    monkeypatch.setattr(Engine, "on_link_lost", lambda *_: order.append(len(world.handled)))
    world.authority.ask(lambda _: None)
    with world.authority._guard:  # nothing waits, and the engine has no time
        world.receive("D1", "reply")
        world.authority.on_link_change("authority", False)
        world.authority.work_off_reply()
    world.settle()
    assert order == [1]


def test_a_lone_reply_is_handled_before_what_comes_with_it(world):
    with world.authority._guard:
        world.receive("D1", "reply")
        world.receive("D1", count=2)
        world.receive("D2", "reply")
        world.authority.work_off_reply()
    world.settle()
    assert [what.split("/")[0] for _, what in world.handled] == [
        "D1 reply",
        "D1 x",
        "D2 reply",
        "D1 x",
    ]


def test_tasks_are_limited(world):
    world.hold()
    done = threading.Event()
    for _ in range(MAX_TASKS - 1):
        world.authority.do(lambda _: None)
    world.authority.do(lambda _: done.set())
    with refused("not-serving"):
        world.authority.do(lambda _: None)
    world.authority.on_link_change("authority", True)  # never refused
    world.release()
    assert done.wait(PATIENCE_S)
    world.authority.do(lambda _: None)


def test_a_device_that_is_provisioned_while_we_serve_gets_its_own_quota(world):
    with Store(world.fleet.database) as store:
        store.add_device(Device("D4", "relay", "UNIX", "plain", PLAIN.policy))
    world.authority.reload()
    world.hold()
    world.receive("stranger", count=500)
    world.receive("D4", count=2)
    world.release()
    world.settle()
    assert world.devices().count("D4") == 2
    assert world.devices()[1] == "D4"


def test_an_application_that_is_exported_while_we_serve(world):
    assert world.authority.ask(lambda engine: engine.exported()) == frozenset()
    with Store(world.fleet.database) as store:
        store.add_app(App("lights", (), ()))
        store.set_exported("lights", 1.0)
    world.authority.reload()
    assert world.authority.ask(lambda engine: engine.exported()) == {"lights"}


def test_an_overlong_topic_counts_by_its_length(world):
    """The inbox holds bytes of topics as well."""
    world.hold()
    receive(world.authority, "x" * 60_000, b"", count=100)
    world.release()
    world.settle()
    assert 1 <= len(world.handled) <= 8


def test_an_idle_authority_still_ticks(world):
    ticked = threading.Event()
    world.authority.ask(lambda engine: engine.start(_waits(engine), lambda _: ticked.set()))
    assert ticked.wait(PATIENCE_S)


def _waits(engine):
    yield Wait(lambda _: False, engine.clock().steady)
    return {}


def test_a_caller_uses_an_engine_that_is_free(world):
    world.settle()
    assert world.authority.ask(lambda _: threading.current_thread()) is threading.current_thread()


def test_a_caller_leaves_its_task_to_the_thread_that_has_the_engine(world):
    world.hold()
    answers: list[object] = []
    asking = threading.Thread(
        target=lambda: answers.append(world.authority.ask(lambda _: threading.current_thread()))
    )
    asking.start()
    while not world.authority._inbox.tasks:
        asking.join(0.01)
    assert not answers
    world.release()
    asking.join(PATIENCE_S)
    assert answers == [world.authority._thread]


def test_the_link_hands_in_a_lone_reply(world):
    world.settle()
    world.receive("D1", "reply")
    world.authority.work_off_reply()
    assert world.handled == [("authority", "D1 reply/fmt/json")]


def test_no_reply_overtakes_what_waits(world):
    world.hold()
    world.receive("D1", "x")
    world.receive("D1", "reply")
    world.authority.work_off_reply()
    assert not world.handled
    world.release()
    world.settle()
    assert [what for _, what in world.handled] == ["D1 x/fmt/json", "D1 reply/fmt/json"]


def test_a_lone_reply_waits_for_an_engine_that_is_busy(world):
    world.hold()
    world.receive("D1", "reply")
    world.authority.work_off_reply()
    assert not world.handled
    world.release()
    world.settle()
    assert world.handled == [("authority", "D1 reply/fmt/json")]


def test_a_task_in_the_place_of_a_lone_reply_leaves_no_reply_behind(world, monkeypatch):
    monkeypatch.setattr(module, "_TICK_S", 1000.0)
    world.authority.do(lambda _: None)  # the engine's thread begins a wait of that length
    world.settle()
    end = time.monotonic() + PATIENCE_S
    while not world.authority._changed._waiters and time.monotonic() < end:
        time.sleep(0.01)
    world.receive("D1", "reply")
    with world.authority._changed:  # as a caller does that the link's thread overtakes
        world.authority._put_task(lambda _: None)
    world.authority.work_off_reply()
    while not world.handled and time.monotonic() < end:
        time.sleep(0.01)
    assert world.handled == [("authority", "D1 reply/fmt/json")]


def test_no_work_for_an_engine_that_ends_while_a_caller_comes(world, monkeypatch):
    world.settle()
    given: list[object] = []

    class Ending:
        """The engine's thread ended just before a caller has the guard."""

        def acquire(self, blocking: bool) -> bool:
            world.authority._engine = None
            return True

        def release(self) -> None:
            pass

    world.hold()  # its thread takes nothing from the inbox
    guard, engine = world.authority._guard, world.authority._engine
    world.authority._guard = Ending()
    with refused("timed-out"):
        world.authority.ask(given.append, timeout_s=0.1)
    world.authority._guard, world.authority._engine = guard, engine
    assert given == []
