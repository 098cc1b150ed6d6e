"""What is done again at RabbitMQ, which was away, slow, or gave a device more rights again."""

import time
import urllib.parse

import rabbitmq_kit
import rabbitmq_model
from host_kit import refused
from rabbitmq_model import API_PASSWORD
from warden_host.broker.rabbitmq import management
from warden_host.devices.rabbitmq_sweeps import RabbitSweeps
from warden_host.store.reactions import QUARANTINE, Reaction
from warden_host.store.store import Device, Store

DEVICE = "d:lock:D1"
model, fleet, store = rabbitmq_model.FIXTURES


def order(store, name: str, wipe: bool, ago: float) -> None:
    store.add_device(Device(name, "lock", "UNIX", "plain", b""))
    with store.transaction():
        store.order_ending(name, True, wipe, time.time() - ago)


def test_who_was_revoked_is_cut_off_again_once_it_is_listed(fleet, model, store):
    """Also one that was revoked a year ago: RabbitMQ may have been away, or this program."""
    for name, ago in (("late", 7), ("early", 3), ("before", 3e7), ("wiped", 7)):
        model.users[f"d:lock:{name}"] = {"tags": ""}
        order(store, name, name == "wiped", ago)
        model.connect(f"d:lock:{name}")
    sweeps = RabbitSweeps(fleet)
    for _ in range(2):
        sweeps.look(store)
    assert model.limits == {"d:lock:late": 0, "d:lock:before": 0}
    assert list(model.rights) == ["d:lock:wiped"]
    assert model.client_ids == ["d:lock:early"]
    assert len([path for method, path in model.asked if method == "PUT"]) == 3
    assert API_PASSWORD not in str(model.asked)
    model.asked.clear()
    with store.transaction():
        store.end_ending("late")
    sweeps.look(store)
    assert model.asked == []


def test_what_is_refused_for_one_device_is_done_for_the_others(fleet, model, store):
    for name in ("a", "b"):
        model.users[f"d:lock:{name}"] = {"tags": ""}
        order(store, name, False, 7)
        model.connect(f"d:lock:{name}")
    with store.transaction():
        store.set_reaction("D1", Reaction(QUARANTINE, "replayed", "", 1.0))
    model.refused.add("user-limits/d%3Alock%3Aa/max-connections")
    sweeps = RabbitSweeps(fleet)
    with refused("broker-refused"):
        sweeps.look(store)
    assert (model.limits, list(model.rights)) == ({"d:lock:b": 0}, [DEVICE])
    assert model.client_ids == ["d:lock:a"]
    model.refused.clear()
    model.asked.clear()
    sweeps.look(store)
    assert (model.limits, model.client_ids) == ({"d:lock:a": 0, "d:lock:b": 0}, [])
    changed = [path for method, path in model.asked if method == "PUT"]
    assert changed == ["user-limits/d%3Alock%3Aa/max-connections"]  # the others are done


def test_what_was_not_closed_is_closed_in_the_next_look(fleet, model, store):
    with store.transaction():
        store.set_reaction("D1", Reaction(QUARANTINE, "replayed", "", 1.0))
    path = "connections/" + urllib.parse.quote(model.connect(DEVICE), safe="")
    model.refused.add(path)
    sweeps = RabbitSweeps(fleet)
    with refused("broker-refused"):
        sweeps.look(store)
    assert model.client_ids == [DEVICE]
    model.refused.clear()
    sweeps.look(store)
    assert model.client_ids == []


def test_a_connection_that_can_t_be_closed_keeps_no_other_open(fleet, model):
    first = model.connect(DEVICE)
    model.connect(DEVICE)
    model.refused.add("connections/" + urllib.parse.quote(first, safe=""))
    with refused("broker-refused"):
        management.refuse(fleet, DEVICE)
    assert [one["name"] for one in model.connections] == [first]


def test_who_is_let_in_while_rabbitmq_is_slow_is_not_kept_out(fleet, model, store, monkeypatch):
    order(store, "back", False, 7)
    model.users["d:lock:back"] = {"tags": ""}
    answer = model.answer

    def slowly(method, path, body):
        if method == "PUT":
            with Store(fleet.database) as other, other.transaction():
                other.end_ending("back")
        return answer(method, path, body)

    monkeypatch.setattr(model, "answer", slowly)
    RabbitSweeps(fleet).look(store)
    assert model.limits == {}


def test_rights_that_a_start_of_rabbitmq_gave_back_are_taken_again(fleet, model, store):
    """Definitions that are loaded at its start have the rights of before the quarantine."""
    clock = [1e6]
    model.users["d:lock:wiped"] = {"tags": ""}
    order(store, "wiped", True, time.time())
    with store.transaction():
        store.set_reaction("D1", Reaction(QUARANTINE, "replayed", "", 1.0))
    sweeps = RabbitSweeps(fleet, lambda: clock[0])
    sweeps.look(store)
    narrow = dict(model.rights)
    assert sorted(narrow) == [DEVICE, "d:lock:wiped"]
    for _ in range(2):
        for user in narrow:
            model.rights[user] = {"exchange": "amq.topic", "write": ".*", "read": ".*"}
            model.connect(user)
        for _ in range(2):
            clock[0] += management.LISTED_S
            sweeps.look(store)
        assert (model.rights, model.client_ids) == (narrow, [])
        model.rights.clear()


def test_the_example_reads_its_definitions_once():
    """Seen at 3.10.8: with load_definitions, each start undoes a quarantine and a rotation."""
    lines = (rabbitmq_kit.EXAMPLE / "rabbitmq.conf").read_text().splitlines()
    assert "definitions.skip_if_unchanged = true" in lines
    assert not [line for line in lines if "load_definitions" in line]


def test_who_is_being_let_in_again_is_left_to_that(fleet, model, store):
    with store.transaction():
        store.set_reaction("D1", Reaction(QUARANTINE, "replayed", "", 1.0, readmitting=True))
    model.connect(DEVICE)
    RabbitSweeps(fleet).look(store)
    assert (model.rights, model.client_ids) == ({}, [DEVICE])


def test_a_quarantine_is_done_again_once_its_connection_is_listed(fleet, model, store):
    clock = [100.0]
    sweeps = RabbitSweeps(fleet, lambda: clock[0])
    with store.transaction():
        store.set_reaction("D1", Reaction(QUARANTINE, "replayed", "", 100.0))
    sweeps.look(store)
    assert model.rights == {}
    clock[0] += management.LISTED_S
    model.connect(DEVICE)
    model.down = True
    with refused("broker-refused"):
        sweeps.look(store)
    model.down = False
    sweeps.look(store)
    assert (list(model.rights), model.client_ids) == ([DEVICE], [])
    model.connect(DEVICE)
    sweeps.look(store)
    assert model.client_ids == [DEVICE]  # once
    RabbitSweeps(fleet, lambda: clock[0] + 1e6).look(store)  # another start of `warden serve`
    assert model.client_ids == []


def test_a_revoked_device_with_tokens_is_closed_again_and_again(fleet, model, store, monkeypatch):
    clock = [1e6]
    sweeps = RabbitSweeps(fleet, lambda: clock[0])
    monkeypatch.setattr("warden_host.devices.rabbitmq_sweeps._has_token", lambda one: True)
    with store.transaction():
        store.order_ending("D1", True, False, 1.0)
    for _ in range(3):
        model.connect("any", DEVICE)
        model.connect("any", DEVICE + "2")
        sweeps.look(store)
        assert DEVICE not in model.client_ids
        model.connect("any", DEVICE)
        sweeps.look(store)
        assert DEVICE in model.client_ids  # it is not asked at each look
        clock[0] += management.LISTED_S
    assert model.client_ids.count(DEVICE + "2") == 3
