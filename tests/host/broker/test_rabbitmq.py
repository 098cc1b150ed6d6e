"""What RabbitMQ is asked to do with its own users, and with those that it knows by a token."""

import contextlib
import re
import threading

import pytest
import rabbitmq_model
from host_kit import new_fleet, refused
from process_kit import PATIENCE_S
from rabbitmq_model import API_PASSWORD, serving
from warden_client import secretfile
from warden_host.broker.accounts import (
    Action,
    Right,
    device_account,
    quarantine_account,
    wipe_only_account,
)
from warden_host.broker.rabbitmq import api, management, rights, traffic
from warden_host.devices import account_access, quarantine, revocation, rotation
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.reactions.settings import Budget
from warden_host.service.rabbitmq_traffic import RabbitTraffic
from warden_host.store.reactions import QUARANTINE, Reaction
from warden_host.store.store import Store

DEVICE, OPEN = "d:lock:D1", "o:garden:bed"
model, fleet, store = rabbitmq_model.FIXTURES


def put_account(fleet) -> None:
    from warden_host.broker.backend import open_registry

    with open_registry(fleet) as accounts:
        accounts.put(device_account("lock", "D1", "x"))


# Who is a user, and who is none


def test_an_own_user_gets_a_limit_and_loses_its_connections(fleet, model):
    model.connect(DEVICE)
    model.connect("a:home", DEVICE)  # another user under its client ID is none of it
    assert management.refuse(fleet, DEVICE) == 1
    assert (model.limits, model.client_ids) == ({DEVICE: 0}, [DEVICE])
    management.admit(fleet, DEVICE)
    assert model.limits == {}


@pytest.mark.parametrize("name", [OPEN, "g:hall", "d:lock:token", "t:home:1"])
def test_one_that_is_no_user_is_closed_by_its_client_id(fleet, model, name):
    model.connect("any", name)
    model.connect("any", name + "2")
    model.connect(DEVICE)
    assert management.refuse(fleet, name) == 1
    assert model.client_ids == [name + "2", DEVICE]
    management.admit(fleet, name)
    assert not management.restrict(fleet, quarantine_account("lock", "token"))
    management.set_password(fleet, name, "x")
    assert (model.limits, model.rights, len(model.users)) == ({}, {}, 2)


def test_accounts_of_each_kind_are_cut_off_and_let_in_again(fleet, model, store, monkeypatch):
    """An open device that is a user of RabbitMQ's own comes in again, too."""
    model.users[OPEN] = {"tags": ""}
    monkeypatch.setattr(Store, "open_devices", lambda _: {"bed": "garden"})
    monkeypatch.setattr(Store, "gateway", lambda *_: ())
    done: list[tuple[str, str]] = []

    class Accounts:
        def __enter__(self):
            return self

        def __exit__(self, *_): ...

        def disable(self, name):
            done.append(("disable", name))

        def enable(self, name):
            done.append(("enable", name))

    monkeypatch.setattr(account_access, "open_registry", lambda _: Accounts())
    for name in (OPEN, "a:home", "g:hall"):
        account_access.disable(fleet, name)
        assert (name in model.limits) is (name in model.users)
        account_access.enable(fleet, store, name)
        assert done[-2:] == [("disable", name), ("enable", name)]
        assert model.limits == {}


def test_an_answer_of_another_kind_is_none(fleet, model, monkeypatch):
    for answer in (None, [], "x", 7, b"null"):
        monkeypatch.setattr(model, "answer", lambda *_, answer=answer: (200, answer))
        with refused("broker-refused"):
            management.refuse(fleet, DEVICE)
    for status in (401, 500, 503):
        monkeypatch.setattr(model, "answer", lambda *_, status=status: (status, None))
        with refused("broker-refused"):
            management.admit(fleet, DEVICE)


def test_many_connections_of_clients_stay_readable(fleet, model):
    """RabbitMQ tells 2 to 3 KiB of each: 20,000 would be too long an answer."""
    model.connect(DEVICE)
    (one,) = model.connections
    more = {"client_properties": "x" * 2500}
    model.connections += [one | more | {"name": str(n), "user": "x"} for n in range(20_000)]
    assert management.refuse(fleet, DEVICE) == 1


@pytest.mark.parametrize("name", ["\ud800", None, 7])
def test_a_connection_without_a_name_ends_nothing(fleet, model, name):
    model.connect(DEVICE)
    model.connect(DEVICE)
    model.connections[0]["name"] = name
    with contextlib.suppress(HostError):
        management.refuse(fleet, DEVICE)
    assert [one["name"] for one in model.connections] == [name]


def test_too_long_an_answer(fleet, model, monkeypatch):
    monkeypatch.setattr(api, "_MAX_ANSWER", 1 << 16)
    model.users[DEVICE] = {"tags": "x" * (1 << 16)}
    with refused("broker-refused") as caught:
        management.refuse(fleet, DEVICE)
    assert "MiB" in str(caught)


def test_an_answer_that_goes_on_and_on(fleet, model, monkeypatch):
    monkeypatch.setattr(api, "_WHOLE_S", -1.0)
    with refused("unreachable"):
        management.refuse(fleet, DEVICE)


def test_a_password_that_is_no_text(fleet, model):
    secretfile.write(fleet.keys / management.PASSWORD, b"\xff\n")
    with refused("broker-refused"):
        management.refuse(fleet, DEVICE)
    secretfile.write(fleet.keys / management.PASSWORD, API_PASSWORD.encode() + b"\r\n")
    assert management.refuse(fleet, DEVICE) == 0


def test_an_api_that_speaks_no_http(fleet, model, monkeypatch):
    monkeypatch.setattr("http.server.BaseHTTPRequestHandler.protocol_version", "SSH-2.0-x")
    with refused("broker-refused"):
        management.refuse(fleet, DEVICE)


def test_an_api_that_says_nothing(fleet, model, monkeypatch):
    monkeypatch.setattr(api, "_TIMEOUT_S", 0.05)
    monkeypatch.setattr("socketserver.BaseServer.handle_error", lambda *_: None)  # no client left
    end, answer = threading.Event(), model.answer
    monkeypatch.setattr(model, "answer", lambda *asked: end.wait(PATIENCE_S) and answer(*asked))
    with refused("unreachable"):
        management.refuse(fleet, DEVICE)
    end.set()


@pytest.mark.parametrize("form", [None, [], "x", {}])
def test_a_connection_without_a_client_id(form):
    assert api.client_id({"variable_map": form}) == ""


def test_the_rest_is_not_asked_for_once_the_api_is_away():
    asked: list[int] = []

    def work(number: int) -> None:
        asked.append(number)
        raise HostError("broker-refused" if number == 1 else "unreachable", "")

    with refused("unreachable"):
        management.each((1, 2, 3), work)
    assert asked == [1, 2]


@pytest.mark.parametrize(
    "more", [{"passwords_only": 1}, {"tokens": True}, {"user": 7}, {"management": 7}]
)
def test_keys_that_there_are_not(tmp_path, model, more):
    with serving(model, new_fleet(tmp_path), **more) as fleet, refused("config-malformed"):
        management.admit(fleet, DEVICE)


# Rights


def test_rights_in_rabbitmq_s_words():
    found = rights.patterns(quarantine_account("lock", "front-door").rights)
    write, read = (one.replace(r"\z", r"\Z") for one in found)  # the word of Python before 3.14
    base = "iot-2.type.lock.id.front-door"
    assert re.search(write, f"{base}.evt.incident.fmt.cose")
    for other in (
        f"{base}.evt.temperature.fmt.json",
        f"{base}.evt.incident.fmt.json",
        f"{base}.evt.incident.fmt.cose.x",
        f"x.{base}.evt.incident.fmt.cose",
        "iot-2.type.lock.id.front-doors.evt.incident.fmt.cose",
        "iot-2-type-lock-id-front-door-evt-incident-fmt-cose",
    ):
        assert not re.search(write, other), other
    assert [bool(re.search(read, f"{base}.cmd.{end}")) for end in ("*.fmt.*", "#", "open", "*")]
    assert not re.search(read, f"{base}.cmd.open.fmt.cose")  # a filter of its own


def test_no_right_is_no_topic():
    assert rights.patterns([]) == (r"^\z", r"^\z")
    one = rights.patterns([Right(Action.RECEIVE, "a/#"), Right(Action.PUBLISH, "a/+/b")])
    assert one == (r"^(?:a\.[^.#]+\.b)\z", r"^\z")


def test_a_quarantine_and_its_end_are_rights_there(fleet, model, store):
    put_account(fleet)
    model.connect(DEVICE)
    assert quarantine.apply(fleet, store, "D1", Reaction(QUARANTINE, "replayed", "", 1.0))
    narrow = rights.patterns(quarantine_account("lock", "D1").rights)
    body = {"exchange": "amq.topic", "write": narrow[0], "read": narrow[1]}
    assert (model.rights, model.client_ids) == ({DEVICE: body}, [])
    management.refuse(fleet, DEVICE)
    model.connect(DEVICE)
    model.rights.clear()  # one that was de-registered had all of them
    quarantine.begin_readmission(fleet, store, "D1")
    assert (model.rights[DEVICE], model.limits) == (body, {})
    quarantine.complete_readmission(fleet, store, "D1")
    full = rights.patterns(device_account("lock", "D1", "").rights)
    assert (model.rights[DEVICE]["write"], model.rights[DEVICE]["read"]) == full
    assert model.client_ids == [DEVICE]  # it stays: it has no less than before


def test_a_device_to_be_wiped_has_the_rights_for_that_alone(fleet, model, store):
    put_account(fleet)
    model.connect(DEVICE)
    revocation.order_ending(store, "D1", revoke=True, wipe=True)
    revocation.revoke_access(fleet, store, "D1")
    write, _ = rights.patterns(wipe_only_account("lock", "D1").rights)
    assert (model.rights[DEVICE]["write"], model.limits, model.client_ids) == (write, {}, [])


def test_a_rotated_password_is_set_there_as_a_hash(fleet, model, store, monkeypatch):
    put_account(fleet)
    device = store.device("D1")

    class Order:
        body = {"password": "n\u0101w".encode()}

    rotation._set_password(fleet, device, Order())
    user = model.users[DEVICE]
    assert user["tags"] == ["policymaker"]  # as it was
    assert len(user["password_hash"]) == 48 and "n\u0101w" not in str(model.users)
    rotation._set_password(fleet, device, Order())
    assert model.users[DEVICE]["password_hash"] != user["password_hash"]  # a salt each time


# What connections sent

BUDGET = Budget(messages_s=10, kib_s=10, processor_ms=100, tolerance_s=4)
OVER = 1 << 20


class Meter:
    def __init__(self, fleet) -> None:
        self.found: list[str] = []
        self.news: list[FleetEvent] = []
        self.traffic = RabbitTraffic(
            fleet,
            lambda client: None if client == "a:authority" else BUDGET,
            lambda client, why: self.found.append(client),
            self.news.append,
        )


@pytest.mark.parametrize("passwords_only", [True, False])
def test_a_flooder_is_found_by_its_bytes(tmp_path, model, passwords_only):
    """Blamed where its user's name proves it; where a token may name anyone, it is closed."""
    with serving(model, new_fleet(tmp_path), passwords_only=passwords_only) as fleet:
        meter = Meter(fleet)
        model.users["a:authority"] = {"tags": ""}
        name = model.connect(DEVICE)
        model.connect("a:home")
        model.connect("d:lock:D1\n", "x")  # none of the users
        meter.traffic.look(lambda: 0.0)
        for number, one in enumerate(model.connections[:2], 1):
            one["recv_oct"] += OVER if number == 1 else 50 * 1024
        meter.traffic.look(lambda: 2.0)
    if passwords_only:
        assert (meter.found, meter.news, len(model.connections)) == ([DEVICE], [], 3)
    else:
        (event,) = meter.news
        assert (event.kind, event.code, name in event.text) == ("notice", "account-flood", True)
        assert (meter.found, DEVICE in model.client_ids) == ([], False)


def test_the_authority_is_never_counted_where_passwords_prove_it(tmp_path, model):
    with serving(model, new_fleet(tmp_path), passwords_only=True) as fleet:
        meter = Meter(fleet)
        model.users["a:authority"] = {"tags": ""}
        model.connect("a:authority")
        meter.traffic.look(lambda: 0.0)
        model.connections[0]["recv_oct"] = OVER
        meter.traffic.look(lambda: 2.0)
        assert (meter.found, meter.news, len(model.connections)) == ([], [], 1)


def test_a_connection_of_unknown_size_waits(fleet, model):
    meter = Meter(fleet)
    model.connect(DEVICE)
    for size in (None, "7", -1, True):
        model.connections[0]["recv_oct"] = size
        meter.traffic.look(lambda: 0.0)
    assert (meter.found, meter.news) == ([], [])


def test_a_slow_answer_makes_no_flooder(tmp_path, model):
    """100 KiB are the budget of the 10 s that RabbitMQ takes to tell of them."""
    with serving(model, new_fleet(tmp_path), passwords_only=True) as fleet:
        meter, clock, answer = Meter(fleet), [0.0], model.answer
        model.connect(DEVICE)
        meter.traffic.look(lambda: clock[0])

        def slowly(method, path, body):
            clock[0] += 10.0
            model.connections[0]["recv_oct"] += 100 * 1024
            return answer(method, path, body)

        model.answer = slowly  # type: ignore[method-assign]
        meter.traffic.look(lambda: clock[0])
        model.answer = answer  # type: ignore[method-assign]
        clock[0] += 2.0
        meter.traffic.look(lambda: clock[0])
    assert meter.found == []


def test_what_can_t_be_closed_counts_no_bytes_twice(tmp_path, model, monkeypatch):
    """One connection that RabbitMQ did not close made flooders of all others in time."""
    closed: list[str] = []

    def close(_, name: str) -> None:
        closed.append(name)
        raise HostError("unreachable", "it does not answer")

    monkeypatch.setattr(traffic, "close", close)
    with serving(model, new_fleet(tmp_path)) as fleet:
        meter = Meter(fleet)
        flooder, _ = model.connect("x", "x"), model.connect("y", "y")
        meter.traffic.look(lambda: 0.0)
        for number in range(1, 20):
            model.connections[0]["recv_oct"] += OVER
            model.connections[1]["recv_oct"] += 10 * 1024
            with refused("unreachable"):
                meter.traffic.look(lambda now=2.0 * number: now)
        model.connections[1]["recv_oct"] += 10 * 1024
        meter.traffic.look(lambda: 40.0)
    assert set(closed) == {flooder}


def test_that_nothing_is_counted_is_told_once(fleet, model, monkeypatch):
    monkeypatch.setattr("warden_host.service.rabbitmq_traffic.PERIOD_S", 0.001)
    model.down = True
    meter = Meter(fleet)
    looked = threading.Event()
    with meter.traffic.running():
        while len(model.asked) < 3 and not looked.wait(0.01):
            pass
    assert [event.code for event in meter.news] == ["broker-refused"]
    assert PATIENCE_S


def test_without_the_table_nothing_runs(tmp_path):
    made = new_fleet(tmp_path)
    with Meter(made).traffic.running():
        names = [thread.name for thread in threading.enumerate()]
    assert "warden-rabbitmq" not in names
