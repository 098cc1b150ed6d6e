"""Fields of requests on the sockets: another form is refused before anything is done."""

from types import SimpleNamespace

import pytest
from host_kit import new_fleet, refused
from warden_host.errors import HostError
from warden_host.service import live_state, request_fields, web_passwords, web_requests
from warden_host.service.control import Caller
from warden_host.service.live_requests import LiveRequests
from warden_host.service.operators import AuditedSockets, Rights
from warden_host.service.pending_wipes import finisher
from warden_host.service.request_fields import read_number, read_policy, read_request, read_text
from warden_host.service.rollout_handler import RolloutHandler
from warden_host.service.run import Service, _Dispatcher
from warden_host.service.web_acts import WebActs

SEND = {"device": "D1", "command": "set_relay"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"args": []},
        {"args": None},
        {"ttl": "30"},
        {"ttl": True},
        {"ttl": 1.5},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": 601},
        {"timeout": True},
        {"timeout": "10"},
        {"device": None},
        {"device": "D" * 257},
        {"command": 1},
        {"app": []},
        {"forge": {}},
    ],
)
def test_commands_of_another_form(wrong):
    found = read_request(SEND | {"hold": 1, "timeout": 600})
    assert (found.timeout_s, found.args, found.hold) == (600.0, {}, False)
    with refused("control-malformed"):
        read_request(SEND | wrong)


@pytest.mark.parametrize("value", [-1, 1001, 1.0, True, "1", None])
def test_numbers_out_of_range(value):
    assert read_number({}) == 0 and read_number({"page": 1000}) == 1000
    with refused("control-malformed"):
        read_number({"page": value})


def test_texts_within_their_length():
    assert read_text({"name": "x" * 5}, "name", limit=5) == "x" * 5
    for line in ({"name": "x" * 6}, {"name": b"x"}, {}):
        with refused("control-malformed"):
            read_text(line, "name", limit=5)


@pytest.mark.parametrize("value", [{"hex": 1}, {"hex": "0"}, {"hex": "xx"}, [{"hex": None}]])
def test_bytes_of_another_form(value):
    assert request_fields.read_bytes([{"hex": "00ff"}, {"a": 1}]) == [b"\x00\xff", {"a": 1}]
    with refused("control-malformed"):
        request_fields.read_bytes(value)


@pytest.mark.parametrize(
    "more",
    [
        {"change": "1"},
        {"change": True},
        {"brokers": {}},
        {"brokers": [["a", 1]]},
        {"brokers": [["a", True, 1]]},
        {"brokers": [["a", 1, 1, 1]]},
        {"brokers": ["a"]},
    ],
)
def test_policies_of_another_form(more):
    known = SimpleNamespace(device="D1", next_policy=b"p")
    line = {"change": 1, "brokers": [["a", 1, 1], ["b", 1, 1, "password"]]}
    assert read_policy(line, known)["policy"] == b"p"
    assert read_policy({"brokers": 1}, known) == {}  # a question alone
    with refused("control-malformed"):
        read_policy(line | more, known)
    with refused("not-applicable"):
        read_policy(line, SimpleNamespace(device="D1", next_policy=None))


@pytest.mark.parametrize("operation", [None, 1, [], {}, "", "nothing"])
def test_operations_that_are_none(operation):
    with refused("control-malformed"):
        _Dispatcher().handle({"op": operation}, Caller())


def test_orders_of_the_owner_that_are_not_sent():
    """One for the clock while this host's is in doubt, and one for a token that is no order."""
    given: list[object] = []
    in_doubt = SimpleNamespace(clock=lambda: SimpleNamespace(sealable=False))
    handler = _Dispatcher()
    handler.authority = SimpleNamespace(
        ask=lambda question: question(in_doubt), submit=lambda request, _: given.append(request)
    )
    with refused("clock-jumped"):
        handler.handle({"op": "clock", "device": "D1", "order": {"hex": "00"}}, Caller())
    with refused("control-malformed"):
        handler.handle({"op": "token", "device": "D1", "order": [1]}, Caller())
    assert given == []
    handler.handle({"op": "clock", "device": "D1"}, Caller())  # a question alone
    handler.handle({"op": "token", "device": "D1", "order": {"renew": True}}, Caller())
    assert [request.args for request in given] == [{}, {"renew": True}]


@pytest.mark.parametrize("count", [0, -1, 1.0, True, "1", None, web_requests._MAX_ROWS + 1])
def test_pages_of_another_size(count):
    with refused("control-malformed"):
        web_requests.look_ups(None, None)["audit"]({"count": count}, Caller())


@pytest.mark.parametrize("after", [-1, 1.5, True, "1"])
def test_marks_that_are_none(after):
    with refused("control-malformed"):
        LiveRequests(None, None).watch({"after": after}, Caller())


@pytest.mark.parametrize(
    "line",
    [
        {"devices": "D1"},
        {"devices": []},
        {"devices": ["D1", 2]},
        {"devices": [["D1"]]},
        {"devices": ["D1"], "remove": "no"},
        {"devices": ["D1"], "remove": None},
        {"devices": ["D1"] * 10_000},
    ],
)
def test_groups_of_another_form(line):
    with refused("control-malformed"):
        WebActs(None, None).operations["group"]({"group": "g"} | line, Caller())


@pytest.mark.parametrize(
    "length", [web_passwords.MIN_PASSWORD - 1, web_passwords.MAX_PASSWORD + 1]
)
def test_passwords_that_are_too_short_or_too_long(length):
    with refused("bad-argument"):
        web_passwords.hash_password("x" * length)


def test_nothing_is_done_before_the_authority_is_there_and_calls_are_limited():
    done: list[str] = []
    sockets = AuditedSockets(lambda line, _: done.append(line["op"]), lambda code, text: None)
    rights = Rights("alice console", ("own",))
    caller = SimpleNamespace(who="", on_finish=None)
    with refused("not-serving"):
        sockets.handle_session({"op": "send"} | SEND, caller, rights)
    assert done == []
    with refused("not-serving"):
        for _ in range(1000):
            sockets.handle_session({"op": "online"}, caller, rights)
    assert 50 < len(done) < 1000


def test_a_fleet_whose_authority_ended_is_not_served():
    fine = SimpleNamespace(check=lambda: None)
    for alive in (True, False):
        authority = SimpleNamespace(alive=lambda alive=alive: alive)
        made = Service(None, authority, fine, fine, None, fine, print)
        if alive:
            made.check()
        else:
            with refused("not-serving"):
                made.check()


def test_what_a_reload_is_about_is_counted_and_loaded_anew():
    """Also its flood: whom the owner changed, begins anew."""
    done: list[object] = []
    engine = SimpleNamespace(unload=lambda device: done.append(("unload", device)))
    handler = _Dispatcher()
    handler.authority = SimpleNamespace(
        floods=SimpleNamespace(reset=lambda device: done.append(("reset", device))),
        ask=lambda question: question(engine),
        reload=lambda: done.append("reload"),
    )
    handler.renewing = SimpleNamespace(wake=lambda: done.append("renewing"))
    handler.keeper = SimpleNamespace(wake=lambda: done.append("keeper"))
    handler.broker = SimpleNamespace(restart_warning=lambda: "")
    handler.handle({"op": "reload", "device": "D1"}, Caller())
    assert done == [("reset", "D1"), ("unload", "D1"), "reload", "keeper", "renewing"]


def test_a_policy_that_ended_is_followed_and_no_order():
    followed: list[str] = []
    handler = _Dispatcher()
    handler.authority = SimpleNamespace(ask=lambda _: followed.append("D1"))  # and no submit
    handler.broker = SimpleNamespace(restart_warning=lambda: "again")
    caller = Caller()
    handler.handle({"op": "policy", "device": "D1", "ended": True}, caller)
    assert caller.next_line(1) == {"ok": True, "notice": "again"}
    assert followed == ["D1"]


def test_only_a_fleet_that_is_not_served_has_no_present(monkeypatch):
    fleet = SimpleNamespace(control=None)
    for code in ("not-serving", "timed-out"):

        def call(*_, code=code):
            raise HostError(code, "no")

        monkeypatch.setattr(live_state.control_client, "call", call)
        if code == "not-serving":
            assert live_state.ask(fleet).online is None
        else:
            with refused(code):
                live_state.ask(fleet)


def test_a_caller_of_a_rollout_that_hangs_up_is_shown_no_more():
    watchers: list = []
    rollouts = SimpleNamespace(watch=lambda _, watcher: watchers.append(watcher))
    caller = Caller()
    RolloutHandler._show(SimpleNamespace(_run=lambda ask: ask(rollouts)), 1, caller)
    watchers[0]({"rollout": 1}, False)
    assert caller.next_line(1) == {"rollout": 1}
    caller.gone.set()
    with refused("timed-out"):  # by which the rollout drops it
        watchers[0]({"rollout": 1}, False)


def test_a_wiped_device_goes_from_the_fleet_before_it_goes_from_the_engine(tmp_path, monkeypatch):
    done: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "warden_host.devices.revocation.remove_wiped",
        lambda _fleet, _store, device: done.append(("fleet", device)),
    )
    finish = finisher(new_fleet(tmp_path), lambda device: done.append(("engine", device)))
    finish("D1")
    assert done == [("fleet", "D1"), ("engine", "D1")]
